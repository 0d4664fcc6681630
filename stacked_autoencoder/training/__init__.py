"""Training the levels of a stack."""
