"""The error that ends a command with a sentence instead of a traceback."""


class CannotRunError(Exception):
    """The command cannot do its work here: its message says why and what to do. Exit code 2."""
