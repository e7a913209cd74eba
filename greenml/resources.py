"""Where the files that ship beside the code lie: SQL and configs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("greenml")))


def shipped(name: str) -> Path:
    """The folder `sql` or `configs`: inside the installed wheel, or else at the root of a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
