"""OpenVINO and ONNX Runtime: opened when they are needed, without a word and without a connection to anywhere."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, cast

from greenml.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

    import openvino as ov


def openvino() -> ModuleType:
    """The package. Raises UsageError where it is not installed.

    Importing openvino starts a process that reports to Google Analytics, unless each user has opted out in a file at
    home; it does without where `openvino_telemetry` is not installed, and here it never is. Held by
    tests/test_serve.py.
    """
    cast("dict[str, ModuleType | None]", sys.modules).setdefault("openvino_telemetry", None)
    try:
        import openvino
    except ImportError as error:
        raise _missing("OpenVINO", error) from error
    found: ModuleType = openvino
    return found


@functools.cache
def core() -> ov.Core:
    """OpenVINO's, the one of this process. Raises UsageError where it is not installed.

    Each Core brings a stack for signals, and puts the one before back when it goes. Two that go in the order in which
    they came leave that of the first, which is no longer there, and the next Ctrl-C ends in a segmentation fault. Held
    by tests/test_serve.py.
    """
    return openvino().Core()


def onnxruntime() -> ModuleType:
    """The package. Raises UsageError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing("ONNX Runtime", error) from error
    onnxruntime.disable_telemetry_events()  # the builds for Windows have some
    onnxruntime.set_default_logger_severity(3)  # errors
    found: ModuleType = onnxruntime
    return found


def _missing(what: str, error: ImportError) -> UsageError:
    return UsageError(
        f"{what} is not here to run the model with: {error}", hint="pip install 'greenml[compress]' brings it"
    )
