"""The command `dynadiff`, a file a group of commands. It knows options and no arithmetic."""
