"""The rows of a run, also for MLflow and Weights & Biases.

Each tracker lives in a process of its own, which is fed the records that the store gets: its imports, threads, signal
handlers and time-outs are not the training's. Adding one is a decorated class, here or in a package that names its
module by an entry point in the group `greenml.trackers`:

    @register_tracker("printer")
    class Printer:
        def begin(self, run): ...
        def epoch(self, epoch, at): ...
        def metric(self, metric): ...
        def end(self, ending): ...
"""

from __future__ import annotations

from greenml.trackers.following import SERIES, Following
from greenml.trackers.registry import Ending, Tracker, check, register_tracker

__all__ = ["SERIES", "Ending", "Following", "Tracker", "check", "register_tracker"]
