"""A file for each question that the figures of the pages answer (`__main__.QUESTIONS`), and what they share."""

import os
import sys

# By itself TensorFlow leaves oneDNN out where the processor has no AVX-512, and convolutions are a tenth slower;
# PyTorch, which benchmarks compare with, always has it. Once TensorFlow is imported it is too late for that.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
