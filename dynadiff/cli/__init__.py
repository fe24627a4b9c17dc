"""The command `dynadiff`, a file a group of commands. It knows options; a command imports what it starts."""
