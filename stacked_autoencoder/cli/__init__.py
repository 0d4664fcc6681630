"""The command `stacked-autoencoder`."""
