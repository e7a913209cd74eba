"""What a model takes on the disk, and of memory: that is asked of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from greenml import serve

if TYPE_CHECKING:
    from greenml.serve import Predictor

TIME_OUT_S = 120.0


def memory_bytes(folder: Path, precision: str) -> int | None:
    """Resident memory that loading the model in `folder` and its first answer add to a fresh process, libraries not
    counted; None where that process does not come to an end."""
    command = [sys.executable, "-m", "greenml.compress.footprint", str(folder), precision]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_OUT_S, check=True)
        return int(json.loads(done.stdout)["bytes"])
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        return None


def open_any(
    folder: Path, *, device: str = "cpu", precision: str | None = None, num_threads: int | None = None
) -> Predictor:
    """The model of a run, as `greenml predict` opens it: the exported one where there is one, on the CPU and without
    torch; else `model.pt` on `device`. Raises UsageError and DataError.
    """
    if serve.is_exported(folder):
        return serve.open_exported(folder, precision=precision, num_threads=num_threads)
    from greenml.learn.precision import pick_device
    from greenml.learn.serving import open_torch

    return open_torch(folder / "model.pt", pick_device(device), precision=precision, num_threads=num_threads)


def num_bytes(predictor: Predictor, folder: Path) -> int:
    """What the files of an open model take on the disk."""
    files = predictor.description.get("files", ["model.pt"])
    return sum((folder / name).stat().st_size for name in files)


def _answer_once(predictor: Predictor) -> None:
    said: dict[str, Any] = predictor.description
    predictor(np.zeros((1, said["in_chans"], said["image_size"], said["image_size"]), np.float32))


def main(folder: str, precision: str) -> None:
    """Print the bytes, as JSON."""
    import psutil  # not above: `predict` needs none

    if serve.is_exported(Path(folder)):
        backend = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))["backend"]
        serve.runtime.openvino() if backend == "openvino" else serve.runtime.onnxruntime()
    else:
        from greenml.learn import serving  # noqa: F401
    process = psutil.Process()
    before = process.memory_info().rss
    predictor = open_any(Path(folder), precision=precision)
    _answer_once(predictor)
    print(json.dumps({"bytes": max(0, process.memory_info().rss - before)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
