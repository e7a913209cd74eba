"""For Keras' `fit`: its epochs with training and validation, and the metrics that the model was compiled with.

    from greenml.tracking.keras import GreenMLCallback

    model.fit(..., callbacks=[GreenMLCallback(dataset="imdb", region="IN", num_classes=2)])

The arguments are those of `greenml.track`, for a run that begins and ends with `fit`. To have the test in it, too, hand
over a run, also to `evaluate`: `with greenml.track(...) as run: callback = GreenMLCallback(run)`.
"""

from __future__ import annotations

from typing import Any

from greenml.tracking.loop import Listener, when_asked_for


def _callback() -> type:
    from keras.callbacks import Callback
    from keras.optimizers.schedules import LearningRateSchedule

    class GreenMLCallback(Listener, Callback):
        """Tells greenml what `fit` and `evaluate` do."""

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self._loop.begin(model=self.model.name)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self._end_epoch(epoch)
            self._loop.begin_epoch(epoch + 1)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._done = epoch + 1
            # Only those of the validation are named in full.
            self._loop.hear(
                {name if name.startswith("val_") else f"train_{name}": value for name, value in (logs or {}).items()}
            )

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self._end_epoch(self._done)
            self._loop.end()

        def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self._loop.turn_to("validate" if self._loop.is_training else "test")

        def on_test_end(self, logs: Any = None) -> None:
            if self._loop.is_training:
                self._loop.turn_to("train")
            else:
                self._loop.turn_to(None)
                self._loop.hear({f"test_{name}": value for name, value in (logs or {}).items()})

        def _end_epoch(self, done: int) -> None:
            # A schedule of the learning rate knows its end, or may; without one every epoch is as good as a last one.
            if self._loop.is_training:
                scheduled = isinstance(getattr(self.model.optimizer, "_learning_rate", None), LearningRateSchedule)
                self._loop.end_epoch(schedule_complete=not scheduled or done == self.params.get("epochs"))

    return GreenMLCallback


__getattr__ = when_asked_for(_callback)
