"""One file per figure that the README quotes."""
