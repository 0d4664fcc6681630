"""Runs the command `stacked-autoencoder` as `python -m stacked_autoencoder`."""

import sys

from stacked_autoencoder.cli.main import run

sys.exit(run())
