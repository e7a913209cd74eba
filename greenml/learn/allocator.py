"""Memory that is freed and wanted again at every step."""

from __future__ import annotations

import ctypes
import platform


def keep_memory() -> None:
    """Have glibc keep freed memory instead of handing it back after every step.

    PyTorch's CPU tensors are mapped and unmapped each step otherwise; `make bench` prints what it saves. Other C
    libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # <malloc.h>
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 256 * 2**20)
