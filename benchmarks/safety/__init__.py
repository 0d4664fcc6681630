"""Kills, hostile files, and processes that must end."""
