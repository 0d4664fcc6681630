"""The kinds of level, one file each."""
