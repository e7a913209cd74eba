"""For `transformers.Trainer`: its epochs with training, validation and checkpoints, and what it logs.

    from greenml.tracking.huggingface import GreenMLCallback

    Trainer(..., callbacks=[GreenMLCallback(dataset="imdb", region="IN", num_classes=2)])

The arguments are those of `greenml.track`, for a run that begins and ends with the training. To have the test in it,
too, hand over a run: `with greenml.track(...) as run: Trainer(..., callbacks=[GreenMLCallback(run)])`.
"""

from __future__ import annotations

from typing import Any

from greenml.tracking.loop import Listener, when_asked_for

NO_FIGURES = ("epoch", "total_flos", "_runtime", "_per_second", "_preparation_time", "_timestamp")
"""How names end that say nothing of the model."""
OF_EPOCH = {"loss": "train_loss", "learning_rate": "lr"}
CONSTANT = ("constant", "constant_with_warmup")
"""Schedules of the learning rate under which every epoch is as good as a last one."""


def _callback() -> type:
    from transformers import TrainerCallback

    class GreenMLCallback(Listener, TrainerCallback):
        """Tells greenml what a Trainer does."""

        def on_train_begin(self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
            if state.is_world_process_zero:
                self._loop.begin(model=type(model).__name__)

        def on_epoch_begin(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
            self._end_epoch(args, state)
            self._loop.begin_epoch(int((state.epoch or 0) + 1e-6) + 1)

        def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            self._turn_to_what_follows(control)

        def on_epoch_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            self._turn_to_what_follows(control)

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "train_runtime" not in logs:  # the sum of the whole training, which the epochs tell better
                figures = {OF_EPOCH.get(name, name): value for name, value in logs.items()}
                self._loop.hear({name: value for name, value in figures.items() if not name.endswith(NO_FIGURES)})

        def on_prediction_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
            self._loop.turn_to("validate" if self._loop.is_training else "test")

        def on_evaluate(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            self._loop.turn_to(("checkpoint" if control.should_save else "train") if self._loop.is_training else None)

        def on_save(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
            self._loop.turn_to("train" if self._loop.is_training else None)

        def on_predict(self, _args: Any, _state: Any, _control: Any, metrics: Any = None, **_: Any) -> None:
            self._loop.turn_to(None)
            figures = {name: value for name, value in (metrics or {}).items() if not name.endswith(NO_FIGURES)}
            self._loop.hear(figures)

        def on_train_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
            self._end_epoch(args, state)
            self._loop.end()

        def _turn_to_what_follows(self, control: Any) -> None:
            if control.should_evaluate:
                self._loop.turn_to("validate")
            elif control.should_save:
                self._loop.turn_to("checkpoint")

        def _end_epoch(self, args: Any, state: Any) -> None:
            if self._loop.is_training:
                epochs = state.epoch or 0.0
                constant = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type) in CONSTANT
                self._loop.end_epoch(
                    schedule_complete=constant or state.global_step >= state.max_steps,
                    is_whole=abs(epochs - round(epochs)) < 1e-6,
                )

    return GreenMLCallback


__getattr__ = when_asked_for(_callback)
