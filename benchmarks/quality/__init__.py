"""Benchmarks of what is lost, and of what models on encodings reach."""
