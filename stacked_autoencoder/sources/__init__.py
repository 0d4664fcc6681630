"""Where images come from, one file per kind: memory, a stream, a folder."""
