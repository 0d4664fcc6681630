"""Keeping what was measured, and writing it into the documentation."""
