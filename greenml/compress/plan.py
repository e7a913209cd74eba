"""What is to be made of which run, or a reason why not. Opens no library."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from greenml.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from greenml.config import Config
    from greenml.records import Intensity

METHODS = {
    "prune": "remove whole channels, then fine-tune",
    "prune-unstructured": "set single weights to zero, then fine-tune: no faster on dense kernels",
    "distill": "train a smaller model (--student) to answer as this one does",
    "qat": "int8, fine-tuned with the rounding in the loop",
    "int8": "static int8, calibrated on training images, convolutions included",
    "dynamic": "int8 of linear layers only, for comparison",
    "bf16": "bfloat16",
    "fp16": "half precision",
}
ENDS = ("qat", "int8", "dynamic", "bf16", "fp16")
"""These decide in which numbers the model computes: one of a chain, its last."""
FINE_TUNED = ("prune", "prune-unstructured", "distill", "qat")
SPARSE = ("prune", "prune-unstructured")
FILLING = ("prune", "qat")
"""These train on, and fill the zeros that pruning single weights has made."""
CALIBRATED = ("int8", "qat")
MEANT = {"sparsity": SPARSE, "epochs": FINE_TUNED, "lr": FINE_TUNED, "calibration": CALIBRATED, "student": ("distill",)}
"""Which settings mean something to some methods only."""
NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "compress": {
        "int8": ("openvino", "nncf"),
        "qat": ("openvino", "nncf"),
        "prune": ("torch_pruning",),
        "onnx": ("onnxscript", "onnxruntime"),
        "openvino": ("openvino",),
    },
    "phone": {"executorch": ("executorch",)},
}
"""Packages of greenml's extras, by the method or export that needs them: asked for before anything is fine-tuned."""
APPLIED_BY_ALL = ("int8", "qat", "dynamic", "bf16", "fp16", "prune", "prune-unstructured", "prune,int8")
"""What `--all` makes, in this order; `distill` too, where there is a student."""
EXPORTS = ("onnx", "openvino", "executorch", "tflite")

DEFAULT_SPARSITY = 0.3
DEFAULT_EPOCHS = {"prune": 5, "prune-unstructured": 3, "qat": 2}
"""Of fine-tuning; a student is trained for as many epochs as its teacher was asked for."""
SLOWER = {"qat": 10}
"""So many times smaller than in training is the rate of fine-tuning, where it is not the same."""
DEFAULT_CALIBRATION = 1024
MIN_CALIBRATION = 100
"""Ten groups of images, whose mean range is then known to a third of their spread; NNCF itself asks for 300. The cnn on
CIFAR-10 did with 10 images (within 0.1 points of 1,000), which says nothing of a thousand classes."""
MIN_REPEATS = 5
"""Fewer tell too little of the spread."""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The run out of whose model a smaller one is made."""

    run_id: str
    folder: Path
    config: Config
    """Resolved, as it was trained."""
    row: dict[str, Any]
    """Its columns in the store."""

    @property
    def methods(self) -> tuple[str, ...]:
        """What made it, of METHODS and EXPORTS; nothing where it was trained."""
        return tuple(words.split()[0] for words in (self.row["method"] or "").split(",") if words)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One compression, from a trained model to a smaller one that has been measured."""

    parent: Parent
    methods: tuple[str, ...]
    """Of METHODS, in order; empty where the model is only exported."""
    sparsity: float = DEFAULT_SPARSITY
    """Share of the channels that `prune` removes, or of the weights that `prune-unstructured` sets to zero."""
    student: str | None = None
    epochs: int | None = None
    """Of fine-tuning; None: DEFAULT_EPOCHS."""
    lr: float | None = None
    """Of fine-tuning; None: what suits the method."""
    calibration: int = DEFAULT_CALIBRATION
    """Training images that int8 looks at."""
    exports: tuple[str, ...] = ()
    batch_size: int = 256
    """Of the second measurement of inference; the first is of single images."""
    repeats: int = MIN_REPEATS
    base: Config
    """Of fine-tuning: the parent's, on this machine."""
    intensity: Intensity
    name: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_chain(self.methods)
        if self.lr is not None and not 0 < self.lr < 1e6:
            raise UsageError(f"--lr {self.lr:g} is no rate", hint="as in --lr 0.001")
        sparse = [method for method in self.methods if method in SPARSE]
        if sparse and not 0 < self.sparsity < 1:
            raise UsageError(
                f"--sparsity {self.sparsity:g}: a share between 0 and 1, both excluded",
                hint=f"--sparsity {DEFAULT_SPARSITY} removes 30 % of the "
                + ("channels" if sparse == ["prune"] else "weights"),
            )
        if set(self.methods) & set(CALIBRATED) and self.calibration < MIN_CALIBRATION:
            raise few_images(self.calibration)
        self._refuse_filling()
        self._refuse_student()
        self._refuse_exports()
        refuse_missing(self.methods, self.exports)
        if not self.methods and not self.exports:
            raise UsageError(
                "no --method given", hint=f"one of {', '.join(METHODS)}; or --all for every one that applies"
            )
        if self.repeats < MIN_REPEATS:
            raise UsageError(
                f"--repeats {self.repeats} is too few to tell how exact the figures are",
                hint=f"give {MIN_REPEATS} or more",
            )

    @property
    def words(self) -> str:
        """What is done to the model: "prune 0.3, int8"."""
        said = {
            "distill": f"distill {self.student}",
            **{method: f"{method} {self.sparsity:g}" for method in SPARSE},
        }
        return ", ".join(said.get(method, method) for method in self.methods or self.exports)

    def epochs_of(self, method: str) -> int:
        """How long the model is fine-tuned after `method`."""
        return self.epochs or DEFAULT_EPOCHS.get(method) or self.parent.config.epochs

    def lr_of(self, method: str) -> float:
        """With which rate the model is fine-tuned after `method`: that of the training, since the pruned cnn got
        further with it than with half of it; a tenth where only roundings are to be lived with."""
        assert self.base.lr is not None
        return self.lr or self.base.lr / SLOWER.get(method, 1)

    def to_plain(self) -> dict[str, Any]:
        """Every choice, for the record."""
        return {
            "methods": list(self.methods),
            "sparsity": self.sparsity if set(self.methods) & set(SPARSE) else None,
            "student": self.student,
            "epochs": {method: self.epochs_of(method) for method in self.methods if method in FINE_TUNED},
            "lr": self.lr,
            "calibration": self.calibration if set(self.methods) & set(CALIBRATED) else None,
            "exports": list(self.exports),
            "batch_size": self.batch_size,
            "repeats": self.repeats,
        }

    def _refuse_filling(self) -> None:
        if filling := fillings((*self.parent.methods, *self.methods)):
            raise UsageError(
                f"{filling[0]} trains on, and fills the zeros of prune-unstructured in run {self.parent.run_id}",
                hint="--method int8 keeps them; or compress the model that it was made of: "
                + str(self.parent.row["parent"]),
            )

    def _refuse_student(self) -> None:
        if "distill" not in self.methods:
            if self.student is not None:
                raise UsageError("--student is for --method distill", hint="add it, or leave --student out")
            return
        teacher = self.parent.row["model"]
        if self.student is None:
            raise UsageError("--method distill needs a --student", hint="a smaller model, as --student cnn")
        if self.student == teacher:
            raise same_student(self.student)

    def _refuse_exports(self) -> None:
        for kind in self.exports:
            if kind not in EXPORTS:
                hint = nearest(kind, EXPORTS, otherwise=f"there are {', '.join(EXPORTS)}")
                raise UsageError(f"--export {kind}: no such format", hint=hint)
        if self.exports and has_own_format(self.methods):
            raise UsageError(
                f"a model in {self.methods[-1]} has its own format, and cannot be exported to {self.exports[0]}",
                hint="`--method int8` leaves an OpenVINO model; --export goes with prune, distill, or alone",
            )


def same_student(name: str) -> UsageError:
    """What is said of a student that is its teacher, under this name or another."""
    return UsageError(
        f"the student {name} is the same model as its teacher: nothing would get smaller",
        hint="name another architecture, smaller than that one: any timm name works",
    )


def few_images(num: int) -> UsageError:
    """What is said of a calibration that would tell too little."""
    return UsageError(
        f"{num} images are too few to calibrate with: ranges need at least {MIN_CALIBRATION}",
        hint="more training images, or --method bf16, which needs none",
    )


def has_own_format(chain: Sequence[str]) -> bool:
    """Whether what these methods leave cannot be exported."""
    return bool(chain) and chain[-1] in ENDS


def unmeant(chain: Sequence[str]) -> list[str]:
    """The settings that mean nothing to these methods."""
    return [key for key, methods in MEANT.items() if not set(chain) & set(methods)]


def parse_chain(text: str) -> tuple[str, ...]:
    """`prune,int8` -> its methods. Raises UsageError."""
    methods = tuple(word.strip().lower().replace("_", "-") for word in text.split(","))
    for method in methods:
        if method not in METHODS:
            hint = nearest(method, METHODS, otherwise=f"there are {', '.join(METHODS)}")
            raise UsageError(f"--method {method or repr(text)}: no such method", hint=hint)
    refuse_chain(methods)
    return methods


def refuse_missing(methods: Sequence[str], exports: Sequence[str] = ()) -> None:
    """Raise UsageError where a package that one of these needs is not installed, or does not exist for this PyTorch."""
    if "tflite" in exports:
        raise UsageError(
            "no TFLite: its converter for PyTorch (litert-torch) asks for torch < 2.15 in every release so far",
            hint="--export executorch is PyTorch's own format for phones; --export onnx runs there, too",
        )
    asked = [*(("--method", method) for method in methods), *(("--export", kind) for kind in exports)]
    for (flag, name), (extra, needs) in product(asked, NEEDS.items()):
        for package in needs.get(name, ()):
            if importlib.util.find_spec(package) is None:
                raise UsageError(
                    f"{flag} {name} needs {package}, which is not installed", hint=f"pip install 'greenml[{extra}]'"
                )


def fillings(methods: Sequence[str]) -> list[str]:
    """Those of a chain that fill the zeros of one before them; a fresh student takes none over."""
    found, has_zeros = list[str](), False
    for method in methods:
        if has_zeros and method in FILLING:
            found.append(method)
        has_zeros = method == "prune-unstructured" or (has_zeros and method != "distill")
    return found


def refuse_chain(methods: Sequence[str]) -> None:
    """Raise UsageError where the methods cannot follow each other."""
    chain = ",".join(methods)
    if len(set(methods)) < len(methods):
        raise UsageError(f"--method {chain}: one method twice", hint="name each once")
    if "distill" in methods[1:]:
        raise UsageError(
            f"--method {chain}: distill begins with a fresh student", hint=f"put it first: distill,{methods[0]}"
        )
    if filling := fillings(methods):
        raise UsageError(
            f"--method {chain}: {filling[0]} trains on, and fills the zeros of prune-unstructured again",
            hint="put it first: --method prune,prune-unstructured"
            if filling[0] == "prune"
            else "int8 keeps them: --method prune-unstructured,int8",
        )
    for earlier, later in pairwise(methods):
        if earlier in ENDS:
            raise UsageError(
                f"--method {chain}: {earlier} is the last step of a chain",
                hint=f"try --method {later},{earlier}" if later not in ENDS else f"choose {earlier} or {later}",
            )


def refuse_parent(row: dict[str, Any], folder: Path) -> None:
    """Raise UsageError or DataError where nothing can be made of this run."""
    run_id = row["run_id"]
    if row["kind"] not in ("train", "trial", "compress"):
        raise UsageError(f"run {run_id} is of kind {row['kind']}: it left no model", hint="choose a training")
    if row["status"] not in ("done", "stopped"):
        way = {"running": "wait for it"}
        if row["kind"] == "train":
            way |= dict.fromkeys(("interrupted", "crashed"), f"`greenml train --resume {run_id[:8]}` finishes it")
        raise UsageError(
            f"run {run_id} is {row['status']}: what its model cost, or scores, is not known",
            hint=way.get(row["status"], "choose a training that is done"),
        )
    if row["kind"] == "compress" and (row["precision"] != "fp32" or not (folder / "model.pt").exists()):
        raise UsageError(
            f"run {run_id} is {row['method']} already, in a form that is only for predictions",
            hint=f"compress the model that it was made of: {row['parent']}",
        )
    if not (folder / "model.pt").exists():
        raise DataError(
            f"{folder / 'model.pt'} is gone: there is nothing to compress", hint="bring it back, or train again"
        )
