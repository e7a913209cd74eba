"""One run: a generator of records."""

from greenml.run.books import EPOCH_PHASES
from greenml.run.calibration import calibrate
from greenml.run.life import train
from greenml.run.past import Past
from greenml.run.stops import budget_rule, grams_by, limits, stop_rule

__all__ = ["EPOCH_PHASES", "Past", "budget_rule", "calibrate", "grams_by", "limits", "stop_rule", "train"]
