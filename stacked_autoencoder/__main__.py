"""`python -m stacked_autoencoder` is the command `stacked-autoencoder`."""

import sys

from stacked_autoencoder.cli.main import main

sys.exit(main())
