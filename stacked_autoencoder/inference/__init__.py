"""Using a stack: encoding, decoding, writing stores, and evaluation."""
