"""From a volume to a picture. It knows the messages of a run and an engine; but for `session`, no socket."""
