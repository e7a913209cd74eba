"""The only exceptions users see: what is wrong, the way out, and an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class GreenMLError(Exception):
    """What is wrong in one line, and in `hint` the way out."""

    exit_code = 1
    stop_reason = "error"
    """What a run that ends by it is said to have ended by."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(GreenMLError):
    """A flag, a config key or a name that greenml does not know."""

    exit_code = 2


class StoreError(GreenMLError):
    """The DuckDB file, or what lies beside it, cannot be opened, read or written."""

    exit_code = 3
    stop_reason = "disk"


class MeterError(GreenMLError):
    """A component that cannot be metered, where the user will not have it unknown."""

    exit_code = 4
    stop_reason = "meter"


class CommandError(GreenMLError):
    """A program that cannot be started. Exit codes are those of shells: 126 and 127."""

    def __init__(self, message: str, *, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class DataError(GreenMLError):
    """The data cannot be had or read."""

    exit_code = 5


class ClusterError(GreenMLError):
    """Machines elsewhere that do not answer, or cannot do what they are for."""

    exit_code = 5
    stop_reason = "cluster"


class TrainingError(GreenMLError):
    """A training that cannot go on."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str, stop_reason: str) -> None:
        super().__init__(message, hint=hint)
        self.stop_reason = stop_reason


class PolicyError(GreenMLError):
    """What the policy of this machine does not allow, at this time or in this place."""

    exit_code = 6
    stop_reason = "policy"


def nearest(word: str, known: Iterable[str], *, otherwise: str, limit: int = 3) -> str:
    """Say which of `known` the user may have meant, or `otherwise` where none is near."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), list(by_lower), n=limit, cutoff=0.6)
    if not close:
        return otherwise
    names = [f"`{by_lower[name]}`" for name in close]
    return "did you mean " + " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names) + "?"
