"""`--log wandb`: where WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE, ... say, as for any program that logs there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from greenml.trackers import content
from greenml.trackers.following import SERIES
from greenml.trackers.registry import register_tracker, require

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.records import Epoch, Metric, Run
    from greenml.trackers.registry import Ending

MAX_TAG = 64
"""Characters that W&B takes."""
EXIT_CODES = {"done": 0, "interrupted": 130, "paused": 75}


@register_tracker("wandb", check=lambda: require("wandb"))
class WandB:
    """A run in W&B under greenml's own id; runs of one `--repeats` share a group."""

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb

    def begin(self, run: Run) -> str:
        """Open the run; a resumed one goes on."""
        self._run = run
        self._page: Any = self._wandb.init(
            id=run.run_id,
            resume="allow",
            name=content.title(run),
            notes=run.note,
            tags=[tag[:MAX_TAG] for tag in run.tags if tag],
            group=os.environ.get(SERIES) or run.parent,
            job_type=run.kind,
            config={**content.params(run), "greenml": content.tags(run)},
            # What else it would tell is of this process, and not of the training.
            settings=self._wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        if self._page.offline:
            return f"offline; to upload: wandb sync {self._page.settings.sync_dir}"
        return str(self._page.url)

    def epoch(self, epoch: Epoch, at: datetime | None) -> None:  # noqa: ARG002 - W&B dates what it is told
        """One step of every metric."""
        if epoch.epoch >= self._page.step:
            metrics = content.epoch_metrics(epoch, self._run)
            self._page.log({"epoch": epoch.epoch, **metrics}, step=epoch.epoch)

    def metric(self, metric: Metric) -> None:
        """A figure without an epoch belongs to the last one."""
        self._page.log({metric.name: metric.value}, step=self._page.step if metric.epoch is None else metric.epoch)

    def end(self, ending: Ending) -> None:
        """The figures of the whole run as its summary, its files as an artifact, and its status."""
        if ending.summary:
            final = content.final_tags(ending.summary) | content.final_metrics(ending.summary)
            self._page.summary.update(final)
        if ending.files:
            artifact = self._wandb.Artifact(f"greenml-{ending.run_id}", type="run")
            for file in ending.files:
                artifact.add_file(file)
            self._page.log_artifact(artifact)
        self._page.finish(exit_code=EXIT_CODES.get(ending.status, 1))
