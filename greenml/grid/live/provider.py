"""What every client of a service can be asked, how it says no, and the clients by name.

Adding one is one decorated function or class, here or elsewhere:

    from greenml.grid.live import register_provider

    @register_provider("somewhere")
    class Somewhere: ...

A package makes its providers known by an entry point in the group `greenml.providers` that names the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, TypeVar

from greenml.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from greenml.grid.series import Factors, Kind, Series

NAMES = ("neso", "electricitymaps", "watttime")
"""What comes with greenml, in the order in which it is asked: first what needs no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place, in the words of each service; None where a service has none for it, or nobody knows."""

    electricity_maps: str | None = None
    """Zone: `IN-SO`; `GB` is Great Britain, and the only one of which NESO gives the whole."""
    latitude: float | None = None
    """Degrees north, as `longitude` is degrees east: what WattTime tells its region by."""
    longitude: float | None = None
    watttime: str | None = None
    """Region: `CAISO_NORTH`."""
    gb_region: int | None = None
    """Of NESO, 1 to 17."""
    gb_postcode: str | None = None
    """Its first half: `RG10`."""


class UnavailableError(DataError):
    """Figures that cannot be had now: whoever has another source goes on to it."""

    def __init__(self, message: str, *, hint: str, status: int | None = None, later: datetime | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        """Of HTTP; None where it did not come to that."""
        self.later = later
        """UTC, naive: when the service wants to be asked again, or has more; None where nobody said."""


class RefusedError(UnavailableError):
    """Figures that this service will not give, however often it is asked: a token that is missing or refused, a plan
    without them, a place that it does not know, made-up data. To who asked for this very service it is an error."""


class NoTokenError(RefusedError):
    """A token that nobody has set: with one, the service could be asked."""


class Provider(Protocol):
    """The client of one service. Moments are UTC, naive; `now` is the caller's clock, and the only one.

    All three raise UnavailableError, RefusedError among them, and UsageError for a site that cannot be.
    """

    name: str
    title: str
    """Who publishes, in words."""
    kind: Kind
    factors: Factors
    step: timedelta
    """How long a figure usually holds; the steps of an answer are as long as the service says."""

    def lack(self, site: Site) -> RefusedError | None:
        """Why there is no use in asking: no token, no name for the place. Reaches no server; None is a promise of
        nothing."""

    def zone(self, site: Site) -> str | None:
        """What its answers call the place; None where it has no name for it, or only an answer tells."""

    def current(self, site: Site, now: datetime) -> Series:
        """The one step that holds at `now`."""

    def history(self, site: Site, start: datetime, end: datetime, now: datetime) -> Series:
        """What is known of [start, end) until `now`, in whole steps, gaps left as they are."""

    def forecast(self, site: Site, now: datetime, hours: float) -> Series:
        """From the step that holds at `now` on, in whole steps, `hours` or as far as the service looks."""


Maker = Callable[[], Provider]
M = TypeVar("M", bound=Maker)

_MAKERS: dict[str, Maker] = {}


def register_provider(name: str) -> Callable[[M], M]:
    """Make a provider known under `name`."""

    def register(maker: M) -> M:
        _MAKERS[name] = maker
        return maker

    return register


def known() -> list[str]:
    """Every name that `create` takes: greenml's own first."""
    for own in NAMES:
        import_module(f"greenml.grid.live.{own}")
    for point in entry_points(group="greenml.providers"):
        point.load()
    return [*NAMES, *sorted(_MAKERS.keys() - NAMES)]


def create(name: str) -> Provider:
    """The provider of this name. Raises UsageError for one that is not known."""
    if name not in _MAKERS and name not in (names := known()):
        listed = ", ".join(names)
        raise UsageError(f"unknown provider `{name}`", hint=nearest(name, names, otherwise=f"greenml knows {listed}"))
    return _MAKERS[name]()
