"""Tests with killed processes, manipulated files and processes that must terminate."""
