"""The one exception of this package."""


class UpError(Exception):
    """The stack cannot start or go on. The message is one sentence for the person at the screen."""
