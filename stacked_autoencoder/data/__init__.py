"""Data sources: converts all supported kinds of images to checked batches of float32."""
