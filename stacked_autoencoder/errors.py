"""Errors that callers may want to tell from others."""


class LoadError(ValueError):
    """A folder isn't one that `save` wrote, is damaged, or holds something that this package doesn't open.

    Nothing of it has been run, and nothing was made of it.
    """
