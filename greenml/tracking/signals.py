"""Signals on their way to a program that runs under us: held back until asked for, and told whence they came."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

ENDING = frozenset({"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK"})
"""They ask a process to end."""
PASSED_ON = ENDING | {"SIGUSR1", "SIGUSR2"}
OF_TERMINALS = frozenset({"SIGINT", "SIGQUIT", "SIGHUP", "SIGBREAK"})
FROM_KERNEL = 0x80
"""`si_code` of what a terminal sends to all processes in its foreground (SI_KERNEL of Linux)."""


class Received(NamedTuple):
    """A signal, and whether the terminal has sent it to our program, too."""

    number: int
    by_terminal: bool

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    @property
    def is_ending(self) -> bool:
        return self.name in ENDING


class Signals:
    """Takes the signals of this process while it lasts, but for those that it was started to ignore.

    Where the system tells who sent a signal (Linux) that decides whether the program has had it; elsewhere a Ctrl-C in
    the foreground of a terminal is taken to be the terminal's.
    """

    def __init__(self) -> None:
        found = {int(getattr(signal, name)) for name in PASSED_ON if hasattr(signal, name)}
        self._numbers = {number for number in found if signal.getsignal(number) is not signal.SIG_IGN}
        self._noted: list[Received] = []
        self._can_ask = hasattr(signal, "sigtimedwait")
        # A program that ends wakes us, too.
        self._held = self._numbers | ({signal.SIGCHLD} if self._can_ask else set())

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        if self._can_ask:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._held)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._can_ask:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """While a process is started: it inherits what is held back."""
        if not self._can_ask:
            yield
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._held)

    def wait(self, seconds: float) -> list[Received]:
        """Signals that came, at latest after `seconds`; none where a process of ours has ended."""
        if self._can_ask:
            info = signal.sigtimedwait(self._held, seconds)
            if info and info.si_signo != signal.SIGCHLD:
                self._noted.append(Received(info.si_signo, info.si_code == FROM_KERNEL))
        elif not self._noted:
            time.sleep(seconds)
        received, self._noted = self._noted, []
        return received

    def _note(self, number: int, frame: object) -> None:  # noqa: ARG002
        by_terminal = signal.Signals(number).name in OF_TERMINALS and (sys.platform == "win32" or _in_foreground())
        self._noted.append(Received(number, by_terminal))


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to us."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
