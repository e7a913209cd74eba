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
    """A signal on its way."""

    number: int
    by_terminal: bool
    """Whether the terminal has sent it to our program, too."""
    is_ending: bool
    """Whether it asks a process to end that was not started to ignore it."""

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name


class Signals:
    """Takes the signals of this process while it lasts; a process started by `starting` finds them as we found them.

    Where the system tells who sent a signal (Linux) that decides whether the program has had it; elsewhere a Ctrl-C in
    the foreground of a terminal is taken to be the terminal's.
    """

    def __init__(self) -> None:
        self._numbers = {int(getattr(signal, name)) for name in PASSED_ON if hasattr(signal, name)}
        self._ignored = {number for number in self._numbers if signal.getsignal(number) is signal.SIG_IGN}
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
    def starting(self) -> Iterator[None]:
        """While a process is started, which inherits what is held back and what is ignored."""
        for number in self._ignored:
            signal.signal(number, signal.SIG_IGN)
        if self._can_ask:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)
        try:
            yield
        finally:
            if self._can_ask:
                signal.pthread_sigmask(signal.SIG_BLOCK, self._held)
            for number in self._ignored:
                signal.signal(number, self._note)

    def wait(self, seconds: float) -> list[Received]:
        """Signals that came, at latest after `seconds`; none where a process of ours has ended."""
        if self._can_ask:
            info = signal.sigtimedwait(self._held, seconds)
            if info and info.si_signo != signal.SIGCHLD:
                self._noted.append(self._received(info.si_signo, by_terminal=info.si_code == FROM_KERNEL))
        elif not self._noted:
            time.sleep(seconds)
        received, self._noted = self._noted, []
        return received

    def _note(self, number: int, frame: object) -> None:  # noqa: ARG002
        by_terminal = signal.Signals(number).name in OF_TERMINALS and (sys.platform == "win32" or _in_foreground())
        self._noted.append(self._received(number, by_terminal=by_terminal))

    def _received(self, number: int, *, by_terminal: bool) -> Received:
        is_ending = signal.Signals(number).name in ENDING and number not in self._ignored
        return Received(number, by_terminal, is_ending)


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to us."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
