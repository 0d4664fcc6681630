from stacked_autoencoder.photographs import *  # noqa: F403
