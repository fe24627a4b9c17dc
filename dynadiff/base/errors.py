"""The one exception that is a message to the user."""


class UserError(Exception):
    """An argument, a file, a package or a peer is not as it must be.

    The text is one sentence that says what is wrong and what to do. The commands print it and exit with code 2;
    any other exception that reaches the command line is a bug.
    """
