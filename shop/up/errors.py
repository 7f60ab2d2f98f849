"""The one exception of this package."""


class UpError(Exception):
    """The stack cannot start or continue. The message is one sentence for the user."""
