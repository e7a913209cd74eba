"""Files that appear under their name complete, or not at all, and where those lie that can be had again."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from greenml.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_folder() -> Path:
    """`GREENML_CACHE`, or the system's place for caches."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("GREENML_CACHE") or user_cache_path("greenml"))


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A name beside `path` to write under: at the end that file takes its place, or goes where anything failed.

    `shared` files may be written by several processes at once, each under a name of its own.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a killed process
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def storing(path: Path, *, hint: str = "free some space, then again") -> Iterator[None]:
    """A file that cannot be written -> StoreError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError is how torch and OpenVINO say that a disk is full
        raise StoreError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or 'is the disk full?'}", hint=hint
        ) from error
