"""Running a trained stack: encoding, decoding, stores, evaluation."""
