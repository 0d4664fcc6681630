"""Stores of encodings on disk."""
