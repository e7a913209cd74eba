"""An exported model, opened: normalised images in, logits out."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from greenml.errors import DataError, GreenMLError, UsageError
from greenml.files import storing, whole
from greenml.pictures import is_mean, is_std
from greenml.serve import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DESCRIPTION = "model.json"
BACKENDS = {"model.xml": "openvino", "model.onnx": "onnx"}
"""What runs a file of this name."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""OpenVINO's names for them."""

CHANNELS = (1, 3)
"""Grey and coloured: what images are decoded to."""

NEEDED = ("classes", "in_chans", "image_size", "mean", "std", "precision", "backend", "files")
"""What a description must tell for the model to be of use."""


class Predictor(Protocol):
    """A model that answers, in whichever runtime."""

    backend: str
    """`torch`, `openvino`, `onnx`."""
    precision: str
    """In which it computes, whatever was asked for: fp32, bf16, fp16, int8."""
    device: str
    num_threads: int
    description: dict[str, Any]
    """What `model.json` says: architecture, classes, normalisation, and in which precision it was written."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [N, C, S, S] -> logits [N, num_classes]."""
        ...


def describe(path: Path, description: dict[str, Any]) -> None:
    """Write `model.json` beside an exported file that is complete. Raises StoreError.

    It notes the sizes of the files and what they hash to, by which a spoilt one is known. What nothing here runs
    (`model.pte`) is described in `model.pte.json`, so that it is not taken for the model that the folder serves.
    """
    to = path.with_name(DESCRIPTION if path.name in BACKENDS else f"{path.name}.json")
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    said = {
        **description,
        "backend": BACKENDS.get(path.name, "executorch"),
        "files": {file.name: file.stat().st_size for file in files},
        "sha256": {file.name: _sha256(file) for file in files},
    }
    with storing(to), whole(to) as partial:
        partial.write_text(json.dumps(said, indent=1), encoding="utf-8")


def is_exported(folder: Path) -> bool:
    """Whether a model that runs without torch lies here, or what is left of one."""
    return any((folder / name).exists() for name in (DESCRIPTION, *BACKENDS))


def open_exported(folder: Path, *, precision: str | None = None, num_threads: int | None = None) -> Predictor:
    """Open `model.xml` or `model.onnx` with its `model.json`.

    `precision` (fp32, bf16, fp16) asks for another one than it was written in; `num_threads` None leaves the number to
    the runtime. Raises DataError for files that are missing, truncated or spoilt, UsageError for a precision that they
    cannot be run in and where the runtime is not installed.
    """
    description = _description(folder)
    written, asked = description["precision"], precision or description["precision"]
    if asked != written and "int8" in (asked, written):
        raise UsageError(
            f"{folder} holds a model in {written}: it cannot be run in {asked}",
            hint=f"leave the precision out: it is {written}",
        )
    if description["backend"] == "openvino":
        return OpenVino(folder / "model.xml", description, asked, num_threads)
    if asked != "fp32":
        raise UsageError(
            f"{folder} holds an ONNX model: here it is run in fp32, not in {asked}",
            hint="`greenml compress RUN --method bf16` makes one for OpenVINO, which has that precision",
        )
    return Onnx(folder / "model.onnx", description, num_threads)


class OpenVino:
    """A model in OpenVINO, on the CPU: one call, one answer."""

    backend = "openvino"
    device = "cpu"

    def __init__(self, path: Path, description: dict[str, Any], precision: str, num_threads: int | None) -> None:
        """`precision` is the one asked for: a CPU that lacks it gets another, and `self.precision` says which."""
        ov = runtime.openvino()
        self.description = description
        options: dict[str, Any] = {
            # Calls come one after the other, so there is one stream. Hints of throughput make two of two threads, and
            # the second then waits: a batch of 256 takes 53 ms rather than 36 (int8 cnn, 32 px).
            "PERFORMANCE_HINT": "LATENCY",
            # Threads that are bound to a core wait there for what else runs on it: beside a training, single images
            # take 0.20 ms rather than 0.16.
            "ENABLE_CPU_PINNING": False,
            # What int8 leaves (sums, poolings) is exact and no slower in fp32: 0.60 s and 0.75 s a batch (resnet18).
            "INFERENCE_PRECISION_HINT": PRECISIONS.get(precision, "f32"),
        }
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        with _as_written(path):
            core = runtime.core()
            compiled = core.compile_model(core.read_model(path), "CPU", options)
            self._request = compiled.create_infer_request()
            taken, given = (_known(port.get_partial_shape()) for port in (compiled.input(0), compiled.output(0)))
        _refuse_other_shapes(path, self, taken, given)
        computes = {ov.Type.f32: "fp32", ov.Type.bf16: "bf16", ov.Type.f16: "fp16"}
        self.precision = "int8" if precision == "int8" else computes[compiled.get_property("INFERENCE_PRECISION_HINT")]
        self.num_threads: int = compiled.get_property("INFERENCE_NUM_THREADS")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [N, C, S, S] -> logits [N, num_classes]."""
        self._request.infer([np.ascontiguousarray(images)], share_inputs=True)
        # A copy: the tensor is filled again by the next call.
        logits: NDArray[np.float32] = self._request.get_output_tensor().data.copy()
        return logits


class Onnx:
    """A model in ONNX Runtime, on the CPU, in fp32."""

    backend = "onnx"
    precision = "fp32"
    device = "cpu"

    def __init__(self, path: Path, description: dict[str, Any], num_threads: int | None) -> None:
        ort = runtime.onnxruntime()
        self.description = description
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads or _num_cpus()
        with _as_written(path):
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            taken, given = self._session.get_inputs()[0], self._session.get_outputs()[0]
            self._input = taken.name
        _refuse_other_shapes(path, self, taken.shape, given.shape)
        self.num_threads: int = options.intra_op_num_threads

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [N, C, S, S] -> logits [N, num_classes]."""
        logits: NDArray[np.float32] = self._session.run(None, {self._input: np.ascontiguousarray(images)})[0]
        return logits


def _num_cpus() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or 1


def _description(folder: Path) -> dict[str, Any]:
    """What `model.json` says, where the files are what it notes. Raises DataError."""
    path = folder / DESCRIPTION
    with _as_written(path):
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _refuse_nonsense(description)
        sizes = {str(name): int(size) for name, size in description["files"].items()}
        hashes = dict(description.get("sha256", {}))  # what greenml wrote before it hashed them has none
    for name, size in sizes.items():
        with _as_written(folder / name):
            found = (folder / name).stat().st_size
            if found != size:
                raise ValueError(f"{found:,} of {size:,} bytes are there")
            if name in hashes and _sha256(folder / name) != hashes[name]:
                raise ValueError("its bytes have changed since")
    return description


def _refuse_nonsense(said: dict[str, Any]) -> None:
    """Raise ValueError where a description is not of the kind that `describe` writes."""
    if missing := [key for key in NEEDED if key not in said]:
        raise ValueError(f"`{missing[0]}` is not in it")
    if said["backend"] not in BACKENDS.values():
        raise ValueError(f"nothing here runs `{said['backend']}`")
    classes, channels, size = said["classes"], said["in_chans"], said["image_size"]
    wrong = {
        "classes": not isinstance(classes, list) or not classes or any(type(name) is not str for name in classes),
        "in_chans": type(channels) is not int or channels not in CHANNELS,
        "image_size": type(size) is not int or size < 1,
        "mean": not is_mean(said["mean"], channels),
        "std": not is_std(said["std"], channels),
        "precision": said["precision"] not in ("int8", *PRECISIONS),
    }
    for key in filter(wrong.__getitem__, wrong):
        raise ValueError(f"its `{key}` is none: {json.dumps(said[key])[:40]}")


def _refuse_other_shapes(
    path: Path, predictor: Predictor, taken: Sequence[int | str | None], given: Sequence[int | str | None]
) -> None:
    """Raise DataError where a model takes other images, or tells other classes, than its description says.

    `taken` and `given` are the shapes that the runtime knows, without a number where the file leaves one open; the
    first dimension is that of the images, of which it takes any number. Where it leaves another one open, it is asked.
    """
    told = predictor.description
    image, classes = [told["in_chans"], told["image_size"], told["image_size"]], [len(told["classes"])]
    with _as_written(path.with_name(DESCRIPTION)):
        takes, gives = list(taken[1:]), list(given[1:])
        if not all(isinstance(one, int) for one in (*takes, *gives)):
            takes, gives = image, list(predictor(np.zeros((1, *image), np.float32)).shape[1:])
        for what, said, found in (("images of", image, takes), ("classes:", classes, gives)):
            if said != found:
                raise ValueError(f"it tells of {what} {_by(said)}, and the model of {_by(found)}")


def _known(shape: Any) -> list[int | None]:
    """OpenVINO's shapes, whose number of dimensions may be open, too."""
    if shape.rank.is_dynamic:
        return [None, None]
    return [one.get_length() if one.is_static else None for one in shape]


def _by(sizes: Sequence[object]) -> str:
    return " x ".join(map(str, sizes)) or "nothing"


def _sha256(file: Path) -> str:
    """30 ms for 46 MB."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """A file that is not as it was written can fail anywhere in here: that is a DataError."""
    try:
        yield
    except GreenMLError:
        raise
    except Exception as error:
        said = "it is not there" if isinstance(error, FileNotFoundError) else _last_words(error)
        raise DataError(
            f"{path}: not a file that greenml exported: {said}", hint="export it again, or copy it again"
        ) from error


def _last_words(error: Exception) -> str:
    """What went wrong, in one line: OpenVINO tells first where in its sources it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1]
