"""What conversions have in common: what libraries refuse, and silence."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from greenml.errors import GreenMLError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TOLERANCE = 1e-3
"""Of the largest logit: sums in another order differ by 1e-6 of it, a layer that means something else by far more."""

MAX_REASON = 200
"""Characters of what a library says: some print the whole graph."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without progress bars, remarks and the warnings of tracing: what matters of them is said in errors."""
    disabled, level = logging.root.manager.disable, logging.root.level
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.setLevel(level)  # OpenVINO's converter leaves it at ERROR, for every library


@contextmanager
def refusals(what: str, *, hint: str) -> Iterator[None]:
    """Whatever a library raises at a model that it cannot take -> UsageError with its reason."""
    try:
        yield
    except GreenMLError:
        raise
    except Exception as error:
        raise UsageError(f"{what}: {_reason(error)}", hint=hint) from error


def largest_difference(found: NDArray[np.float32], expected: NDArray[np.float32], what: str, *, hint: str) -> float:
    """Of any logit of two models that ought to be one. Raises UsageError where it is more than rounding."""
    difference = float(np.abs(found - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:  # NaN is none, too
        raise UsageError(
            f"{what} answers otherwise than PyTorch: logits differ by {difference:.2g}, and not by {limit:.2g}",
            hint=hint,
        )
    return difference


def _reason(error: Exception) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # OpenVINO tells first where in its own sources it was, and lists last what it lacks.
    lacking = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '")) and not line.endswith(":")]
    return (lacking or told or lines or [type(error).__name__])[0][:MAX_REASON]
