"""The charts of compressed models, from rows made by hand."""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from test_plots import data_of, svg_of, walk

from greenml import plots
from greenml.compress.plan import APPLIED_BY_ALL
from greenml.plots.lifecycle import COLOURS, LABEL_PX, MAX_DECADES, TALL_PX, apart

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]
PARENT = "f" * 12


def model(method: str, compress_j: float | None, before: float | None, after: float | None, **changes: Any) -> Row:
    """A row of `break_even` as a report has it: the interval of what is measured is 4 % to either side."""
    saved = None if before is None or after is None else before - after
    half = 0.04 * (before or 0.0)
    verdict = "unknown" if saved is None or compress_j is None else "pays" if saved > half else "never"
    row: Row = {
        "run_id": hashlib.sha256(method.encode()).hexdigest()[:12],
        "parent": PARENT,
        "parent_model": "cnn",
        "model": "cnn",
        "method": method,
        "baseline": "before",
        "batch_size": 256,
        "before_backend": "torch",
        "before_precision": "fp32",
        "after_backend": "openvino",
        "after_precision": "int8",
        "before_flops": 10_000_000,
        "after_flops": 10_000_000,
        "train_kwh": 2600 / 3.6e6,
        "train_source": "estimated",
        "compress_kwh": None if compress_j is None else compress_j / 3.6e6,
        "compress_source": "unknown" if compress_j is None else "estimated",
        "source": "estimated",
        "verdict": verdict,
        "reason": None,
        "level": 1.0,
        "accuracy": 0.9,
        "accuracy_difference": -0.01,
        "accuracy_low": -0.012,
        "accuracy_high": -0.008,
    }
    for name, each in (("before", before), ("after", after)):
        row[f"{name}_j_per_1000"] = each
        row[f"{name}_low_j_per_1000"] = None if each is None else 0.96 * each
        row[f"{name}_high_j_per_1000"] = None if each is None else 1.04 * each
    pays = verdict == "pays" and compress_j is not None and saved is not None
    row["break_even"] = 1000 * compress_j / saved if pays else None  # type: ignore[operator]
    row["break_even_low"] = 1000 * compress_j / (saved + half) if pays else None  # type: ignore[operator]
    row["break_even_high"] = 1000 * compress_j / (saved - half) if pays else None  # type: ignore[operator]
    return row | changes


INT8 = model("int8", 400.0, 2.6, 0.24)
DYNAMIC = model("dynamic", 60.0, 2.6, 2.59, after_backend="torch")
PRUNED = model("prune 0.3", 1500.0, 2.6, 1.0, after_flops=4_000_000, after_backend="torch")
MORE = model("prune 0.5", 1500.0, 2.6, 0.6, after_flops=2_000_000, after_backend="torch")
GAP = model("qat", None, 2.6, 0.24)
BUSY = model("bf16", 400.0, 7.8, 3.9, level=1 / 3)
"""As in a session on a busier machine: in the others its parent took a third of that."""


def lifecycle(*rows: Row) -> Any:
    """Of rows of which something is known."""
    chart = plots.lifecycle(rows)
    assert chart is not None
    return chart


def sets(chart: Any, *fields: str) -> list[Row]:
    """The rows of the largest table of a chart with all of these fields."""
    return max((table for table in data_of(chart) if table and {*fields} <= table[0].keys()), key=len)


def titles(chart: Any) -> str:
    """All words above panels."""
    said = [value for key, value in walk(chart.to_dict(validate=False)) if key == "title" and isinstance(value, dict)]
    return " ".join(" ".join([title["text"], *title.get("subtitle", [])]) for title in said if "text" in title)


# The life of a model


def test_a_line_is_what_compression_took_and_then_each_prediction() -> None:
    points = sets(lifecycle(INT8), "predictions", "energy", "low", "high")
    for point in points:
        number = float(point["predictions"])
        own = point["run_id"] == INT8["run_id"]
        start, each = (400.0, 0.24) if own else (0.0, 2.6)
        assert float(point["energy"]) == pytest.approx((start + number * each / 1000) / 3600, rel=1e-5)
        assert float(point["low"]) <= float(point["energy"]) <= float(point["high"])
    assert {point["run_id"] for point in points} == {PARENT, INT8["run_id"]}


def test_the_training_is_in_no_line() -> None:
    """It was spent either way; a line that began with it would look like every other."""
    dear = INT8 | {"train_kwh": 5.0}
    for row in (INT8, dear):
        first = min(float(point["energy"]) for point in sets(lifecycle(row), "predictions", "energy", "low"))
        assert first < 400 / 3600


def test_a_crossing_is_a_point_with_its_number_in_words(tmp_path: Path) -> None:
    chart = lifecycle(INT8, DYNAMIC)
    [crossed] = sets(chart, "predictions", "from", "to")
    assert float(crossed["predictions"]) == pytest.approx(400 / 2.36 * 1000, rel=1e-5)
    assert float(crossed["from"]) < float(crossed["predictions"]) < float(crossed["to"])
    svg = svg_of(chart, tmp_path)
    assert "pays after 169,000 predictions" in svg
    assert "int8: openvino int8" in svg


def test_lines_of_different_sessions_cross_where_their_points_are() -> None:
    chart = lifecycle(INT8, BUSY)
    assert "The parent's energy differed from session to session: all are brought to its median." in titles(chart)
    lines = sets(chart, "predictions", "energy", "low", "high")
    for crossed in sets(chart, "predictions", "from", "to"):
        start, each = (400.0, 0.24) if crossed["run_id"] == INT8["run_id"] else (400.0, 1.3)
        assert float(crossed["predictions"]) == pytest.approx(1000 * start / (2.6 - each), rel=1e-5)
        own = [point for point in lines if point["run_id"] == crossed["run_id"]]
        for point in own:
            assert float(point["energy"]) == pytest.approx((start + float(point["predictions"]) * each / 1000) / 3600)


def test_who_never_pays_is_named_and_has_no_point() -> None:
    chart = lifecycle(INT8, DYNAMIC)
    assert "Never, as far as anybody can tell: dynamic." in titles(chart)
    assert {row["run_id"] for row in sets(chart, "predictions", "from", "to")} == {INT8["run_id"]}
    assert {row["run_id"] for row in sets(chart, "predictions", "low")} == {PARENT, INT8["run_id"], DYNAMIC["run_id"]}


def test_what_is_unknown_has_no_line_and_is_named() -> None:
    chart = lifecycle(INT8, GAP)
    assert "No line, as their energy is unknown: qat." in titles(chart)
    assert GAP["run_id"] not in {row["run_id"] for row in sets(chart, "predictions", "low")}
    assert plots.lifecycle([GAP]) is None
    assert plots.lifecycle([model("int8", 400.0, None, None)]) is None
    assert plots.lifecycle([]) is None


def test_energy_of_nothing_is_no_line() -> None:
    """A logarithm has no place for 0."""
    assert plots.lifecycle([model("int8", 0.0, 2.6, 0.0)]) is None
    assert plots.lifecycle([model("int8", 400.0, 0.0, 0.24)]) is None
    lifecycle(model("int8", 0.0, 2.6, 0.24)).to_dict()


def test_the_picture_says_batch_runtime_and_how_the_energy_is_known() -> None:
    told = titles(lifecycle(INT8))
    assert "batches of 256" in told
    assert "the parent in torch fp32" in told
    assert "estimated by a power model, not measured" in told
    measured = {"source": "measured", "compress_source": "measured"}
    assert "energy measured" in titles(lifecycle(INT8 | measured))


def test_the_largest_batch_and_the_baseline_that_is_asked_for_are_drawn() -> None:
    single = INT8 | {"batch_size": 1, "before_j_per_1000": 9.0}
    peer = INT8 | {"baseline": "openvino fp32", "before_j_per_1000": 1.0, "before_backend": "openvino"}
    assert [family.batch_size for family in plots.families([single, INT8, peer])] == [256]
    assert "parent in openvino fp32" in titles(plots.lifecycle([single, INT8, peer], baseline="openvino fp32"))


def test_each_parent_has_a_panel_and_too_many_are_left_out() -> None:
    rows = [INT8 | {"parent": f"{i}" * 12, "run_id": f"{i}0" * 6} for i in range(5)]
    assert len(plots.families(rows)) == plots.MAX_PARENTS
    assert len(lifecycle(*rows).vconcat) == plots.MAX_PARENTS
    assert plots.compressed_runs(rows).num_left_out == 2
    many = [model(f"prune 0.{i}1", 100.0 * (i + 1), 2.6, 1.0) for i in range(plots.MAX_LINES + 2)]
    [family] = plots.families(many)
    assert (len(family.rows), family.num_left_out) == (plots.MAX_LINES, 2)


def test_equal_methods_are_told_apart() -> None:
    twice = [INT8 | {"run_id": "1" * 12}, INT8 | {"run_id": "2" * 12}]
    [family] = plots.families(twice)
    assert family.labels == ["int8 (1111)", "int8 (2222)"]


def test_a_break_even_beyond_all_measure_leaves_a_picture() -> None:
    far = model("int8", 4e6, 2.6, 2.4)
    points = [float(row["predictions"]) for row in sets(lifecycle(INT8, far), "predictions", "low")]
    assert math.log10(max(points) / min(points)) <= MAX_DECADES


@pytest.mark.parametrize("places", [[10.0, 11.0, 12.0], [0.0, 300.0, 301.0, 330.0], [150.0] * 9, [200.0]])
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    moved = apart(places, LABEL_PX, TALL_PX)
    in_order = sorted(range(len(places)), key=places.__getitem__)
    for above, below in pairwise(in_order):
        assert moved[below] - moved[above] >= LABEL_PX - 1e-9
    assert min(moved) >= LABEL_PX / 2 - 1e-9
    assert max(moved) <= TALL_PX - LABEL_PX / 2 + 1e-9


def test_all_that_compress_makes_of_a_run_is_drawn() -> None:
    assert len([*APPLIED_BY_ALL, "distill"]) == plots.MAX_LINES
    assert len(set(COLOURS)) == plots.MAX_LINES


def test_every_label_has_room() -> None:
    assert (plots.MAX_LINES + 1) * LABEL_PX <= TALL_PX


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (7.2, "8"), (999.5, "1,000"), (177_998, "178,000"), (999_999, "1 million"), (1.094e6, "1.09 million"),
     (3.2e9, "3.2 billion"), (4.56e13, "45.6 trillion")],
)  # fmt: skip
def test_numbers_of_predictions_are_words(number: float, words: str) -> None:
    assert plots.predictions(number) == words


# By phase


def phases_of(row: Row, **kwh: float | None) -> list[Row]:
    return [{"run_id": row["run_id"], "name": name, "energy_kwh": energy} for name, energy in kwh.items()]


def test_bars_add_up_to_what_was_inherited_and_what_was_taken() -> None:
    phases = phases_of(PRUNED, setup=1e-5, calibrate=2e-5, compress=3e-5, train=3e-4, validate=1e-5, infer=1e-4)
    chart = plots.by_phase([PRUNED], phases)
    unit = 1e6  # mWh
    bars = [bar for bar in sets(chart, "part", "energy") if bar["run_id"] == PRUNED["run_id"]]
    assert sum(float(bar["energy"]) for bar in bars) == pytest.approx(
        unit * (PRUNED["train_kwh"] + sum(phase["energy_kwh"] for phase in phases)), rel=1e-5
    )
    parts = {bar["part"]: float(bar["energy"]) for bar in bars}
    assert parts["the parent's training"] == pytest.approx(unit * PRUNED["train_kwh"], rel=1e-5)
    assert parts["fine-tuning"] == pytest.approx(unit * 3.1e-4)
    assert parts["measuring"] == pytest.approx(unit * 1e-4)
    assert parts["the rest of compression"] == pytest.approx(unit * 1e-5)
    [parent] = [bar for bar in sets(chart, "part", "energy") if bar["run_id"] == PARENT]
    assert parent["part"] == "the parent's training"


def test_a_stack_over_a_gap_is_no_bar(tmp_path: Path) -> None:
    phases = [*phases_of(PRUNED, train=3e-4), *phases_of(INT8, setup=1e-5, compress=None)]
    chart = plots.by_phase([PRUNED, INT8], phases)
    assert {bar["run_id"] for bar in sets(chart, "part", "energy")} == {PARENT, PRUNED["run_id"]}
    assert "not all of its energy is known" in svg_of(chart, tmp_path)
    assert plots.by_phase([INT8], phases[1:]) is None


def test_accuracy_stands_beside_its_bar_with_its_interval(tmp_path: Path) -> None:
    chart: Any = plots.by_phase([PRUNED], phases_of(PRUNED, train=3e-4))
    shown = {row["run_id"]: row for row in sets(chart, "accuracy", "low", "high")}
    assert float(shown[PARENT]["accuracy"]) == pytest.approx(0.91)
    own = shown[PRUNED["run_id"]]
    assert [float(own[end]) for end in ("low", "accuracy", "high")] == pytest.approx([0.898, 0.9, 0.902])
    svg = svg_of(chart, tmp_path)
    assert "90.0%" in svg
    # In every panel the same rows: as many steps of the same height.
    assert {chart.hconcat[i].to_dict()["height"]["step"] for i in range(3)} == {24}


# More and more pruned


def test_a_series_stands_where_its_operations_are() -> None:
    chart = plots.sparsity_series([PRUNED, MORE, INT8])
    points = {row["run_id"]: row for row in sets(chart, "left", "sparsity")}
    assert {run_id: float(row["left"]) for run_id, row in points.items()} == {
        PRUNED["run_id"]: 0.4,
        MORE["run_id"]: 0.2,
    }
    assert {row["sparsity"] for row in points.values()} == {"0.3", "0.5"}
    assert float(points[MORE["run_id"]]["energy"]) == pytest.approx(0.6)
    [parent] = [row for table in data_of(chart) for row in table if row.get("said") == "parent"][:1]
    assert [float(parent[field]) for field in ("left", "energy")] == pytest.approx([1.0, 2.6])


def test_chains_that_differ_in_more_than_sparsity_are_lines_of_their_own() -> None:
    chained = [model(f"prune {s}, int8", 1500.0, 2.6, 0.2, after_flops=f) for s, f in ((0.3, 4e6), (0.5, 2e6))]
    assert set(plots.pruned([PRUNED, MORE, *chained, INT8])) == {"prune", "prune, int8"}
    assert plots.sparsity_series([PRUNED, *chained[:1], INT8]) is None, "one of each says nothing of more and less"
    unstructured = [model(f"prune-unstructured {s}", 1.0, 2.6, 2.6) for s in (0.3, 0.5)]
    assert plots.pruned(unstructured) == {}, "as many operations as before"


# All of them

CHARTS = {
    "lifecycle": lambda rows: plots.lifecycle(rows),
    "by_phase": lambda rows: plots.by_phase(rows, [one for row in rows for one in phases_of(row, compress=1e-4)]),
    "sparsity_series": lambda rows: plots.sparsity_series(rows),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_valid_and_can_be_picked_in(name: str, tmp_path: Path) -> None:
    chart: Any = CHARTS[name]([INT8, DYNAMIC, PRUNED, MORE, GAP])
    spec = chart.to_dict()
    assert spec["params"] == [{"name": plots.PICKED, "value": None}]
    assert svg_of(chart, tmp_path, picked=INT8["run_id"]).startswith("<svg")


@pytest.mark.parametrize("name", CHARTS)
def test_what_people_wrote_is_data_and_never_an_expression(name: str, tmp_path: Path) -> None:
    strange = {"parent_model": "'); alert('x'); ('", "after_backend": "<script>alert(1)</script>"}
    rows = [row | strange | {"method": f"{row['method']}, x'); alert('x"} for row in (INT8, PRUNED, MORE)]
    chart: Any = CHARTS[name](rows)
    said = [
        value
        for key, value in walk(chart.to_dict(validate=False))
        if key in ("calculate", "filter", "test", "expr", "signal", "labelExpr")
    ]
    assert not any("alert" in str(value) for value in said)
    assert not re.search(r"<script>alert", svg_of(chart, tmp_path))
