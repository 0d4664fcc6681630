"""A stack on disk."""
