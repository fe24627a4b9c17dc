"""A scanner made of a recording: paces a run and serves it volume by volume. It never sees a model."""
