"""Any program under the meter: as a command, as a library, from other people's training loops.

    import greenml

    with greenml.track(model="mlp", dataset="wine", region="IN", num_classes=3, num_test=36) as run:
        for epoch in range(1, 11):
            ...
            run.log(epoch=epoch, train_loss=loss, val_accuracy=accuracy)
        run.log(test_accuracy=accuracy)

Nothing heavy is imported before a run is asked for; the adapters for other libraries (`greenml.tracking.huggingface`,
`.lightning`, `.keras`) import these when their `GreenMLCallback` is asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from greenml.tracking.tracker import Tracker

__all__ = ["track"]


def track(
    *,
    model: str | None = None,
    dataset: str | None = None,
    season: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    region: str | None = None,
    intensity: float | None = None,
    trace: str | None = None,
    trace_shift: bool | None = None,
    pue: float | None = None,
    meter: str | None = None,
    scope: str | None = None,
    tdp: float | None = None,
    sampling_interval: float | None = None,
    require_meter: bool | None = None,
    metric: str | None = None,
    num_classes: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    like: str | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | None = None,
    store: str | Path | None = None,
    quiet: bool = False,
) -> Tracker:
    """A run to meter and to log to; `with`, or `start()` and `finish()`, say from where to where.

    `GREENML_MODEL`, `GREENML_DATASET`, `GREENML_SEASON`, `GREENML_REGION`, `GREENML_NAME` and `GREENML_TAGS` stand in
    for what is not given. `metric` is what the run is judged by, as "rmse" or "elo:max"; without it that is accuracy,
    or else the first known name that is logged. An accuracy is ranked where `num_classes` and `num_test` (samples) are
    known, or where `like` names a run that saw the same data and split. `config` is kept for the record.

    Raises UsageError at once for what makes no sense; `start` raises StoreError where the store cannot be written, and
    PolicyError where the policy in `GREENML_POLICY` does not allow it now: to wait is for `greenml track`.
    After that, trouble with the store or the meter is said and never raised.
    """
    from greenml import environment
    from greenml.store import Store, resolve_path
    from greenml.tracking import subject
    from greenml.tracking.tracker import Tracker

    tags = [tags] if isinstance(tags, str) else list(tags)
    # Absolute, as programs change their folder.
    place = Store(resolve_path(Path(store) if store is not None else None).absolute())
    return Tracker(
        subject.resolve(locals(), place, default_model=environment.printable(_this_program())),
        place,
        command=environment.command(),
        versions=environment.versions(),
        dependencies_hash=environment.dependencies_hash(),
        config={"program": dict(config)} if config else {},
        device=device,
        say=_say,
        quiet=quiet,
        asks_policy=True,
    )


def _this_program() -> str:
    """The name of the script that runs; `python` where somebody types."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    if name == "ipykernel_launcher.py":
        return "notebook"
    return name if name not in ("", "-c", "-m") else "python"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
