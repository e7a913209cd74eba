"""The names of figures, and whether more or less of them is better."""

from __future__ import annotations

import re
from typing import NamedTuple

MORE = frozenset({
    "accuracy", "auc", "auroc", "auprc", "ap", "map", "iou", "miou", "dice", "f1", "f1_macro", "f1_micro",
    "f1_weighted", "fbeta", "precision", "recall", "specificity", "sensitivity", "mcc", "kappa", "r2",
    "explained_variance", "bleu", "rouge", "rouge1", "rouge2", "rougel", "meteor", "chrf", "psnr", "ssim", "ndcg",
    "mrr", "hit_rate", "exact_match", "pearson", "spearman", "silhouette", "top5", "reward",
})  # fmt: skip
"""Figures of which more is better; also where they are the last word of a name: `macro_f1`, `top5_accuracy`."""
LESS = frozenset({
    "loss", "error", "mae", "mse", "rmse", "mape", "smape", "msle", "rmsle", "medae", "nll", "perplexity", "ppl",
    "wer", "cer", "fid", "brier", "ece", "log_loss", "cross_entropy", "hinge", "deviance", "rmspe",
})  # fmt: skip
"""Figures of which less is better, in the same way: `mean_absolute_error`, `box_loss`."""
ALIASES = {
    "acc": "accuracy",
    "top1": "accuracy",
    "top_1": "accuracy",
    "top1_accuracy": "accuracy",
    "binary_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
    "f1_score": "f1",
    "r2_score": "r2",
    "r_squared": "r2",
    "roc_auc": "auroc",
    "learning_rate": "lr",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "dev": "val",
    "test": "test",
}


class Name(NamedTuple):
    """`eval_rmse` is `rmse` on `val`; a figure that names no split has the empty one."""

    split: str
    base: str


def parse(name: str) -> Name:
    """Any spelling of a name -> its split and its base: "eval/RMSE" is (val, rmse)."""
    words = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    first, _, rest = words.partition("_")
    split, base = (SPLITS[first], rest) if rest and first in SPLITS else ("", words)
    return Name(split, ALIASES.get(base, base))


NEGATED = re.compile("^neg(ative)?_")
"""As scikit-learn names its scores: `neg_mean_squared_error`, of which more is better."""


def goal_of(base: str) -> str | None:
    """`max` where more is better, `min` where less is; None where the name does not say."""
    if NEGATED.match(base):
        inner = NEGATED.sub("", base)
        # Only errors are negated for being scores: `negative_recall` is the recall of a class.
        return "max" if goal_of(ALIASES.get(inner, inner)) == "min" else None
    for word in (base, base.rpartition("_")[2]):
        if word in MORE:
            return "max"
        if word in LESS:
            return "min"
    return None
