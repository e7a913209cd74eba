"""For Lightning's `Trainer`: its epochs with training, validation and checkpoints, and what the module logs.

    from greenml.tracking.lightning import GreenMLCallback

    Trainer(..., callbacks=[GreenMLCallback(dataset="imdb", region="IN", num_classes=2)])

The arguments are those of `greenml.track`, for a run that begins and ends with `fit`. To have the test in it, too, hand
over a run: `with greenml.track(...) as run: Trainer(..., callbacks=[GreenMLCallback(run)])`.
"""

from __future__ import annotations

import sys
from typing import Any

from greenml.tracking.loop import Listener, when_asked_for


def _callback() -> type:
    # Two packages hold the same library; the classes of one are strangers to the other.
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        from pytorch_lightning import Callback
    else:
        from lightning.pytorch import Callback

    class GreenMLCallback(Listener, Callback):
        """Tells greenml what a Trainer does."""

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                self._loop.begin(model=type(pl_module).__name__)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._end_epoch(trainer, trainer.current_epoch)
            self._loop.begin_epoch(trainer.current_epoch + 1)

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._loop.turn_to("setup" if trainer.sanity_checking else "validate")

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            if self._loop.is_training:
                self._loop.turn_to("train")
            else:
                self._loop.turn_to(None)
                if not trainer.sanity_checking:
                    self._loop.hear(_figures(trainer))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._loop.hear(_figures(trainer))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._end_epoch(trainer, trainer.current_epoch)

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._loop.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
            self._loop.end(exception)

        def on_test_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._loop.turn_to("test")

        def on_test_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._loop.turn_to(None)
            self._loop.hear(_figures(trainer))

        def _end_epoch(self, trainer: Any, done: int) -> None:
            # A schedule of the learning rate knows its end, or may; without one every epoch is as good as a last one.
            if self._loop.is_training:
                self._loop.end_epoch(schedule_complete=not trainer.lr_scheduler_configs or done == trainer.max_epochs)

    return GreenMLCallback


__getattr__ = when_asked_for(_callback)


def _figures(trainer: Any) -> dict[str, Any]:
    """What the module has logged; where it did so by step and by epoch, the epoch's."""
    return {
        name.removesuffix("_epoch"): value
        for name, value in trainer.callback_metrics.items()
        if not name.endswith("_step")
    }
