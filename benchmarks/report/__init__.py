"""Saves benchmark results and writes them into the documentation."""
