"""Whatever a user passes in, as checked batches of float32."""
