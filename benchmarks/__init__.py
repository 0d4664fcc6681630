"""Benchmarks: one module for each, grouped by quality, speed and safety, and shared helpers in `harness`."""

import os
import sys

# Without AVX-512, TensorFlow does not use oneDNN by default, and convolutions are slower. PyTorch always uses it. The
# variable has an effect only before TensorFlow is imported.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
