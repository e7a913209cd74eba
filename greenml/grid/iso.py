"""The only door to pycountry, whose ISO 3166 tables are read when a region is asked for (75 ms), not on import."""

from __future__ import annotations

from typing import Any


def countries() -> list[Any]:
    """Entries with `alpha_2`, `alpha_3`, `name` and, for some, `common_name`."""
    import pycountry

    return list(pycountry.countries)


def subdivisions() -> list[Any]:
    """Entries with `code`, `name`, `type` and `country_code` (alpha-2)."""
    import pycountry

    return list(pycountry.subdivisions)


def country(code: str) -> Any:
    """The country with this alpha-2 or alpha-3 code, or None."""
    import pycountry

    table: Any = pycountry.countries
    return table.get(alpha_2=code) if len(code) == 2 else table.get(alpha_3=code)


def subdivision(code: str) -> Any:
    """The subdivision with this ISO 3166-2 code, or None."""
    import pycountry

    table: Any = pycountry.subdivisions
    return table.get(code=code)
