"""Fitting the levels of a stack."""
