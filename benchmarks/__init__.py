"""One file per figure that the README quotes."""

import os

# Before TensorFlow is imported. By itself it leaves oneDNN out where the processor has no AVX-512, and convolutions
# are a tenth slower; PyTorch, which benchmarks compare with, always has it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
