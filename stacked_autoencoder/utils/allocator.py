"""Lets TensorFlow keep the memory of tensors that it has freed, which makes training faster on some processors.

Without oneDNN, which TensorFlow uses by default only on processors with instructions for neural networks (such as
AVX512_VNNI), a training step allocates and frees about 60 MB. On Linux, TensorFlow returns them to the operating
system, which then has to provide and clear 15,000 pages in the next step. TensorFlow's own allocator, BFC, keeps them.
With oneDNN it saves nothing and makes encoding a tenth slower. There is no public function that selects it. TensorFlow
reads two environment variables when it computes for the first time.
"""

from __future__ import annotations

import os
from pathlib import Path

USE, LIMIT_IN_MB = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"
NO_LIMIT = 1 << 26  # 64 TB; TensorFlow's default is 64 GB, which could be less than the memory of the machine
ONE_DNN = "TF_ENABLE_ONEDNN_OPTS"
NEURAL_NETWORK_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "avx512_bf16", "amx_")
PROCESSORS = Path("/proc/cpuinfo")


def keep_freed_memory() -> None:
    """Selects TensorFlow's own allocator for tensors in main memory where that is faster.

    It does nothing if the user has set one of the variables. It has no effect after TensorFlow has computed something.
    The process keeps the memory that its tensors have needed until it ends.
    """
    if computes_without_onednn():
        os.environ.setdefault(USE, "1")
        os.environ.setdefault(LIMIT_IN_MB, str(NO_LIMIT))


def computes_without_onednn() -> bool:
    """Whether TensorFlow leaves oneDNN off, on Linux with an x86 processor. Elsewhere the result is false."""
    try:
        with PROCESSORS.open(encoding="utf-8", errors="replace") as processors:
            flags = next((line for line in processors if line.startswith("flags")), None)  # of the first processor
    except OSError:
        return False
    if flags is None:
        return False
    if ONE_DNN in os.environ:
        return os.environ[ONE_DNN].lower() in ("0", "false")
    return not any(instructions in flags for instructions in NEURAL_NETWORK_INSTRUCTIONS)
