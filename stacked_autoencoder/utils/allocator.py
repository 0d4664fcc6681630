"""Lets TensorFlow keep the memory of tensors that it has freed, which makes training faster on many processors.

Without oneDNN, which TensorFlow uses by default with AVX-512 only, a training step allocates and frees about 60 MB. By
default TensorFlow returns them to the operating system, which then has to provide and clear 15,000 pages in the next
step. TensorFlow's own allocator keeps them. There is no public function that selects it. TensorFlow reads two
environment variables when it computes for the first time.
"""

from __future__ import annotations

import os

USE, LIMIT_IN_MB = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"
NO_LIMIT = 1 << 26  # 64 TB; TensorFlow's default is 64 GB, which could be less than the memory of the machine


def keep_freed_memory() -> None:
    """Selects TensorFlow's own allocator for tensors in main memory, unless the user has decided otherwise.

    It has no effect after TensorFlow has computed something. The process keeps the memory that its tensors have needed
    until it ends.
    """
    os.environ.setdefault(USE, "1")
    os.environ.setdefault(LIMIT_IN_MB, str(NO_LIMIT))
