"""What the callbacks of other libraries have in common: a training loop that tells what it does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from greenml.tracking import track
from greenml.tracking.tracker import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from greenml.tracking.tracker import Tracker


class Loop:
    """Books the phases and epochs of a training loop in a run: one that is given, or one of its own.

    A run of its own begins and ends with the training; a run that is given also has what the program does besides,
    such as its test.
    """

    def __init__(self, run: Tracker | None, about: Mapping[str, Any]) -> None:
        if run and about:
            raise TypeError(f"a run that is given knows its own {', '.join(about)}")
        self.run, self._about = run, dict(about)
        self._owns = run is None
        self._phase: str | None = None
        self._epoch: int | None = None
        self._figures: dict[str, Any] = {}

    @property
    def is_training(self) -> bool:
        """Whether an epoch is under way."""
        return self._epoch is not None

    def begin(self, *, model: str) -> None:
        """The training begins; `model` is its name in a run of its own, where none was said."""
        if self._owns:
            if self.run:  # an exception ended the training before, and its callbacks were not told
                self.run.finish("failed", "begun anew")
            self.run = track(**{"model": model} | self._about).start()
        self._epoch, self._phase, self._figures = None, None, {}

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, counted from 1."""
        self._epoch, self._phase = epoch, "train"
        if self.run:
            self.run.begin_epoch(epoch)

    def turn_to(self, phase: str | None) -> None:
        """From here on `phase`; None where the library does what has no name."""
        if self.run and phase != self._phase:
            self.run.turn_to(phase or PROGRAM, self._epoch if phase else None)
        self._phase = phase

    def hear(self, figures: Mapping[str, Any]) -> None:
        """Figures of the epoch that is under way, or of none: a test, say."""
        if self.is_training:
            self._figures |= figures
        elif self.run and figures:
            self.run.log(figures)

    def end_epoch(self, *, schedule_complete: bool, is_whole: bool = True) -> None:
        """The epoch is over, its validation and checkpoint too; or the training is, in the midst of it."""
        epoch, figures = self._epoch, self._figures
        self._epoch, self._figures = None, {}
        self.turn_to(None)
        if self.run and epoch is not None:
            within = {"epoch": epoch if is_whole else epoch - 0.5, "schedule_complete": schedule_complete}
            self.run.log(figures | within)

    def end(self, error: BaseException | None = None) -> None:
        """The training is over."""
        self.turn_to(None)
        if self.run and self._owns:
            self.run.__exit__(type(error) if error else None, error, None)
            self.run = None


class Listener:
    """The head of a callback: it hears of a loop, in a run that is given or one of its own, which is about `about`."""

    def __init__(self, run: Tracker | None = None, **about: Any) -> None:
        super().__init__()
        self._loop = Loop(run, about)


def when_asked_for(build: Callable[[], type]) -> Callable[[str], Any]:
    """An adapter's `__getattr__`: its `GreenMLCallback` is built, and its library imported, once somebody asks."""
    built = cache(build)

    def attribute(name: str) -> Any:
        if name == "GreenMLCallback":
            return built()
        raise AttributeError(f"module {build.__module__!r} has no attribute {name!r}")

    return attribute
