"""Services that publish carbon intensity as it is now, was and will be; the only door to them.

    >>> NAMES
    ('neso', 'electricitymaps', 'watttime')

`create(name)` gives the client of one. What it cannot have now is an `UnavailableError`, and whoever asked goes on to
the next source; where the service refuses, so that asking again is of no use, it is a `RefusedError`.
"""

from __future__ import annotations

from greenml.grid.live.provider import (
    NAMES,
    NoTokenError,
    Provider,
    RefusedError,
    Site,
    UnavailableError,
    create,
    known,
    register_provider,
)

__all__ = [
    "NAMES",
    "NoTokenError",
    "Provider",
    "RefusedError",
    "Site",
    "UnavailableError",
    "create",
    "known",
    "register_provider",
]
