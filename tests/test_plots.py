"""What charts draw is what the views say, whatever people named their runs."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_run, record

from greenml import grid, plots
from greenml.console import SOURCES
from greenml.plots import sheet as sheets
from greenml.plots.theme import PALETTE, legible, titled
from greenml.records import Source
from greenml.report import tables
from greenml.report.content import Content, gather
from greenml.report.figures import figures, images_per_s
from greenml.report.rows import contests
from greenml.store import Store
from greenml.units import ENERGY, JOULES_PER_KWH, format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from greenml.report.figures import Figure

A, B, C, D, E = "a" * 12, "b" * 12, "12e456789012", "d" * 12, "e" * 12
OF_A_FILE = dataclasses.replace(WORLD, level="file", region_used="a place that it does not name", g_per_kwh=99.0)
NAMES = ['<script>alert("x")</script>', "'); alert('x'); ('", "\U0001f525 m\u2028odel\x07\\"]
OWN_RUNS = {"leaderboard", "tradeoff", "learning", "marginal", "parts", "repeats", "timeline", "elsewhere"}


def content_of(db: Store) -> Content:
    return gather(db, [row["run_id"] for row in db.rows("select run_id from runs")])


def content_with(**rows: Any) -> Content:
    """Nothing but these rows."""
    nothing: dict[str, Any] = {field.name: () for field in dataclasses.fields(Content)}
    return Content(**nothing | rows)


def drawn(content: Content) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(content)}


def fill(db: Store, run_id: str, *, epochs: int = 3, ej: float = 100.0, **run: Any) -> None:
    """A run with set-up, training, validation and test, that learns."""
    rows: list[Any] = [make_run(run_id, **run), make_phase(run_id, 0, name="setup")]
    for epoch in range(1, epochs + 1):
        correct = 288 - 100 // epoch
        rows += [
            make_phase(run_id, 2 * epoch - 1, name="train", epoch=epoch, cpu_j=ej * 0.9, ram_j=ej * 0.05),
            make_phase(run_id, 2 * epoch, name="validate", epoch=epoch, cpu_j=ej * 0.05, ram_j=0.0),
            make_epoch(
                run_id,
                epoch,
                val_accuracy=correct / 288,
                val_correct=correct,
                energy_j=ej,
                energy_total_j=100 + ej * epoch,
                num_samples=1149,
            ),
        ]
    rows.append(make_phase(run_id, 2 * epochs + 1, name="test"))
    best = (288 - 100 // epochs) / 288
    assert db.write([*rows, make_end(run_id, best_epoch=epochs, val_accuracy=best, test_accuracy=0.8)])


def data_of(chart: Any) -> list[list[dict[str, Any]]]:
    """All tables of a chart, as text: what the page, or Vega, reads."""
    tables = []
    for text in chart.to_dict(validate=False)["datasets"].values():
        if text.startswith("["):
            tables.append(json.loads(text))
        elif not text.startswith("{"):
            tables.append(list(csv.DictReader(text.splitlines())))
    return tables


def svg_of(chart: Any, folder: Path, picked: str | None = None) -> str:
    if picked:
        chart = chart.copy(deep=False)
        chart.params = [param.copy() for param in chart.params]
        chart.params[0].value = picked
    plots.save_svg(chart, folder / "chart.svg")
    return (folder / "chart.svg").read_text()


def walk(spec: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a specification, with the key it stands under."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            yield key, value
            yield from walk(value, key)
    elif isinstance(spec, list):
        for value in spec:
            yield path, value
            yield from walk(value, path)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Three repeats, a smaller model, and a run of another contest. One run_id looks like a number."""
    db = Store(tmp_path_factory.mktemp("store") / "greenml.duckdb")
    db.check()
    for seed, run_id in enumerate((A, B, D)):
        fill(db, run_id, seed=seed, ej=100.0 + seed, group_hash="g1", started_at=STARTED_AT + timedelta(hours=seed))
    fill(db, C, ej=10.0, model="tiny", group_hash="g2", config={"model": "tiny"})
    fill(db, E, data_hash="other", group_hash="g3")
    return content_of(db)


@pytest.fixture(scope="module")
def found(content: Content) -> dict[str, Figure]:
    return drawn(content)


# The whole set


def test_every_chart_is_valid_and_has_its_words(found: dict[str, Figure]) -> None:
    """to_dict() holds each against the grammar of Vega-Lite."""
    assert {name for name, figure in found.items() if figure.chart is None} == {"savings"}
    for figure in found.values():
        assert figure.title
        assert figure.caption.endswith(".")
        if figure.chart is not None:
            figure.chart.to_dict()
    assert "Energy estimated." in found["tradeoff"].caption
    assert "5 runs" in found["tradeoff"].caption


def test_charts_of_runs_have_one_variable_for_the_one_picked(found: dict[str, Figure]) -> None:
    """Also those that have a panel for each contest."""
    for figure in found.values():
        if figure.chart is None:
            continue
        spec = figure.chart.to_dict(validate=False)
        params = [value for key, value in walk(spec) if key == "params" and isinstance(value, list)]
        has_runs = any("run_id" in table[0] for table in data_of(figure.chart) if table)
        assert params == ([[{"name": plots.PICKED, "value": None}]] if figure.name in OWN_RUNS else []), figure.name
        if figure.name in OWN_RUNS:
            assert has_runs, figure.name
            assert spec["params"] == params[0]


def test_what_people_wrote_is_data_and_never_an_expression(db: Store) -> None:
    for i, name in enumerate(NAMES):
        fill(db, f"{i}" * 12, model=name, tags=[name], season=name, precision=name[:9], seed=i, dataset=name)
    for figure in drawn(content_of(db)).values():
        if figure.chart is None:
            continue
        spec = figure.chart.to_dict(validate=False)
        json.dumps(spec, allow_nan=False)
        said = [
            value for key, value in walk(spec) if key in ("calculate", "filter", "test", "expr", "signal", "labelExpr")
        ]
        assert not any(part in str(value) for value in said for part in ("alert", "odel\\", "\U0001f525"))


def test_strange_names_are_drawn(tmp_path: Path) -> None:
    """As text, in a file that is well-formed XML: no control character is left."""
    from xml.etree import ElementTree

    svg = svg_of(plots.leaderboard([run_row(f"{i}" * 12, model=name) for i, name in enumerate(NAMES)]), tmp_path)
    texts = [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert any("<script>" in text for text in texts)


def test_names_keep_their_letters_and_turn_nothing_around() -> None:
    """Neither a model's name nor what stands behind it; Hebrew and joined emoji are as they were written."""
    assert legible("cnn\u202e05_tenser\u2066") == "cnn 05_tenser"
    for name in ("\u05d0\u05d1", "\U0001f469\u200d\U0001f52c"):
        assert legible(name) == name


def test_nothing_to_draw_is_said(db: Store) -> None:
    """A run whose energy is unknown: no chart of energy, and none at 0."""
    record(db, A, [0.8, 0.9], [None, None])
    found = drawn(content_of(db))
    for name in ("tradeoff", "marginal", "parts", "repeats", "heatmap", "elsewhere"):
        assert found[name].chart is None, name
        assert found[name].caption
    assert found["learning"].chart is not None
    assert all(row["energy"] == "" for table in data_of(found["learning"].chart) for row in table if "loss" in row)


def test_one_run_of_one_epoch_is_drawn(db: Store, tmp_path: Path) -> None:
    fill(db, A, epochs=1)
    found = drawn(content_of(db))
    for name in (*OWN_RUNS, "heatmap"):
        assert svg_of(found[name].chart, tmp_path).startswith("<svg"), name


def test_an_empty_store_has_reasons_and_no_charts(db: Store) -> None:
    found = drawn(content_of(db))
    assert {name for name, figure in found.items() if figure.chart is not None} == {"map"}
    assert all(figure.caption for figure in found.values())


# One by one


def test_the_front_is_the_view(content: Content, found: dict[str, Figure]) -> None:
    [points] = [table for table in data_of(found["tradeoff"].chart) if table and "at" in table[0]]
    front = [(row["run_id"], int(row["epoch"])) for row in points if row["at"] == "front"]
    assert front == [(row["run_id"], row["epoch"]) for row in content.front]
    factor = sheets.energy_unit([row["energy_kwh"] for row in content.runs]).factor
    for row, view in zip((row for row in points if row["at"] == "front"), content.front, strict=True):
        assert float(row["energy"]) == pytest.approx(view["energy_kwh"] * factor)
        assert float(row["value"]) == pytest.approx(view["value"])


def test_every_run_has_its_line_in_every_panel(found: dict[str, Figure], tmp_path: Path) -> None:
    """Vega-Lite leaves the numbers of a looked-up CSV as text, by which no run would be of any contest."""
    svg = svg_of(found["learning"].chart, tmp_path)
    assert len(re.findall(r'aria-roledescription="line mark"', svg)) == 5 * 3


def test_an_epoch_that_gained_nothing_has_no_price(db: Store) -> None:
    record(db, A, [0.5, 0.5, 0.6], [100.0] * 3)
    content = content_of(db)
    [epochs] = [table for table in data_of(drawn(content)["marginal"].chart) if "per_point" in table[0]]
    factor = sheets.Sheet(runs=content.runs, marginal=content.marginal).per_point.factor
    prices = [None if row["wh_per_point"] is None else row["wh_per_point"] / 1000 * factor for row in content.marginal]
    assert prices[1] is None
    assert [float(row["per_point"]) if row["per_point"] else None for row in epochs] == pytest.approx(prices)


def test_stacks_add_up_and_gaps_are_left_out(db: Store) -> None:
    fill(db, A)
    fill(db, B, seed=1)
    db.write([make_phase(B, 8, name="lost", cpu_j=None, cpu_source=Source.UNKNOWN)])
    content = content_of(db)
    sheet = sheets.Sheet(runs=content.runs)
    [row] = [row for row in content.runs if row["run_id"] == A]
    for table in data_of(plots.parts(sheet, content.phases)):
        assert {line["run_id"] for line in table} == {A}
        total = sum(float(line["energy"]) for line in table)
        assert total == pytest.approx(row["energy_kwh"] * sheet.energy.factor)


def test_three_runs_make_a_box_and_two_do_not(tmp_path: Path) -> None:
    runs = [run_row(f"{i}" * 12, co2_g=1.0 + i) for i in range(3)]
    for number, has_box in ((2, False), (3, True)):
        ids = [row["run_id"] for row in runs[:number]]
        group = {"model": "cnn", "precision": "fp32", "max_epochs": 3, "run_ids": ids}
        svg = svg_of(plots.repeats(sheets.Sheet(runs=runs), [group]), tmp_path)
        assert ('aria-roledescription="box"' in svg) is has_box
        assert f"cnn, fp32, 3 epochs, n = {number}" in svg


@pytest.mark.parametrize(
    ("runs", "title", "facets"),
    [
        ([{}, {}], "CO2e by model and country", {"no tag"}),
        ([{"tags": ["x", "y"]}, {}], "CO2e by model, country and tag", {"x", "y", "no tag"}),
        ([{"tags": ["x"], "season": "winter"}, {}], "CO2e by model, country and season", {"winter", "no season"}),
    ],
)
def test_the_heatmap_is_by_season_or_else_by_tag(runs: list[dict[str, Any]], title: str, facets: set[str]) -> None:
    rows = [run_row(f"{i}" * 12, **run) for i, run in enumerate(runs)]
    figure = drawn(content_with(runs=rows))["heatmap"]
    assert figure.title == title
    assert {row["facet"] for table in data_of(figure.chart) for row in table} == facets


def test_a_box_is_made_of_runs_that_can_be_compared(db: Store) -> None:
    """Three equal runs, of which one shared its machine: two are left, and no box of three."""
    for seed, run_id in enumerate((A, B, D)):
        fill(db, run_id, seed=seed, group_hash="g")
    assert db.write([make_phase(D, 9, overlap_s=5.0)])
    content = content_of(db)
    assert {row["run_id"]: row["unranked"] for row in content.runs}[D]
    figure = drawn(content)["repeats"]
    [points] = data_of(figure.chart)
    assert {(row["run_id"], row["n"]) for row in points} == {(A, "2"), (B, "2")}
    assert "2 runs; 1 more left out." in figure.caption


def test_break_even_is_where_the_savings_have_paid(content: Content, found: dict[str, Figure], tmp_path: Path) -> None:
    first = content.break_even[0]
    svg = svg_of(found["break-even"].chart, tmp_path)
    assert f"paid back after {plots.count(first['num_trainings'])}" in svg
    [crossing] = [table for table in data_of(found["break-even"].chart) if "said" in table[0]]
    [ways] = [table for table in data_of(found["break-even"].chart) if "choice" in table[0]]
    assert float(crossing[0]["trainings"]) == pytest.approx(first["num_trainings"])
    for choice in {row["choice"] for row in ways}:  # both lines run through the crossing, which is half way
        start, end = [float(row["energy"]) for row in ways if row["choice"] == choice]
        assert (start + end) / 2 == pytest.approx(float(crossing[0]["energy"]), rel=1e-5)


def test_trainings_are_counted_whole() -> None:
    assert plots.count(2.5) == "3 trainings"
    assert plots.count(1.0) == "1 training"


def test_savings_without_a_spread_have_no_bar(tmp_path: Path) -> None:
    row = {
        "model": "cnn", "key": "precision", "from_value": "fp32", "to_value": "bf16", "num_pairs": 2,
        "energy_ratio": 0.5, "std_energy_ratio": 0.1, "accuracy_difference": -0.01, "std_accuracy_difference": 0.005,
    }  # fmt: skip
    lone = row | {"num_pairs": 1, "std_energy_ratio": None, "std_accuracy_difference": None}
    [pairs] = [table for table in data_of(plots.savings([row, lone])) if "ratio" in table[0]]
    assert [pairs[0][name] for name in ("low", "high", "points_low", "points_high")] == ["0.4", "0.6", "-1.5", "-0.5"]
    assert [pairs[1][name] for name in ("low", "high", "points_low", "points_high")] == [""] * 4
    assert "fp32 → bf16, n = 2" in svg_of(plots.savings([row, lone]), tmp_path)


def test_a_run_elsewhere_is_its_energy_times_their_factor(db: Store, tmp_path: Path) -> None:
    """The product is made in the chart, for whichever run is picked."""
    india = grid.resolve("IN", pue=1.5)
    fill(db, A, intensity=india)
    fill(db, B, ej=1000.0, intensity=india)
    content = content_of(db)
    chart = drawn(content)["elsewhere"].chart
    france = next(country for country in grid.countries() if country.alpha3 == "FRA")
    for picked in (None, B):
        shown = next(row for row in content.runs if row["run_id"] == (picked or A))
        svg = svg_of(chart, tmp_path, picked)
        assert three(format_mass(shown["co2_g"])) in three(svg)
        assert three(format_mass(shown["energy_kwh"] * 1.5 * france.g_per_kwh)) in three(svg)


def test_a_picked_run_of_unknown_energy_is_unknown_elsewhere(db: Store, tmp_path: Path) -> None:
    """Not a chart of nothing."""
    fill(db, A, intensity=grid.resolve("IN"))
    fill(db, B)
    assert db.write([make_phase(B, 9, name="lost", cpu_j=None, cpu_source=Source.UNKNOWN)])
    chart = drawn(content_of(db))["elsewhere"].chart
    assert ">unknown" not in svg_of(chart, tmp_path)
    svg = svg_of(chart, tmp_path, B)
    assert svg.count(">unknown") == 17  # fifteen countries, the world, and where it ran
    assert "Norway" in svg


@pytest.mark.parametrize(
    ("source", "sign"),
    [(Source.MEASURED, ""), (Source.APPORTIONED, "÷"), (Source.ESTIMATED, "~")],
)
def test_figures_stand_behind_the_sign_of_their_source(source: Source, sign: str, tmp_path: Path) -> None:
    row = run_row(A, source=str(source))
    assert f">{sign}205</text>" in svg_of(plots.leaderboard([row]), tmp_path)
    chart = plots.elsewhere(sheets.Sheet(runs=[row]), [{"name": "Norway", "g_per_kwh": 30.0}])
    assert f">{sign}30 mg</text>" in svg_of(chart, tmp_path)
    caption = drawn(content_with(runs=[row]))["leaderboard"].caption
    assert [legend in caption for legend_sign, legend in SOURCES.values() if legend_sign == sign] == [True] * bool(sign)


def three(text: str) -> str:
    """Trailing zeros say the same."""
    return re.sub(r"(\.\d*?)0+ (m?g)", lambda match: f"{match[1].rstrip('.')} {match[2]}", text)


def test_the_leaderboard_says_why_a_run_is_not_ranked(tmp_path: Path) -> None:
    rows = [run_row(A, rank=1), run_row(B, rank=None, unranked="not clearly above chance")]
    svg = svg_of(plots.leaderboard(rows), tmp_path)
    assert "1. cnn, fp32 (aaaa)" in svg
    assert "unranked: not clearly above chance" in svg


def test_of_many_runs_the_best_thirty_have_bars() -> None:
    [table] = data_of(plots.leaderboard([run_row(f"{i:012x}", rank=i + 1) for i in range(40)]))
    assert len(table) == plots.MAX_BARS
    assert len({line["run"] for line in table}) == plots.MAX_BARS  # no two bars on one line


def test_curves_are_drawn_from_one_epoch_on(db: Store, tmp_path: Path) -> None:
    record(db, A, [0.8], [None])
    chart = plots.curves(db.rows("from epochs"), title="cnn", subtitle="unknown", best_epoch=1)
    assert len(re.findall(r'aria-roledescription="(?:point|line mark container)"', svg_of(chart, tmp_path))) >= 4


def test_runs_stand_at_the_time_they_started(found: dict[str, Figure], tmp_path: Path) -> None:
    """An hour between the first three runs: three places on the axis of time."""
    svg = svg_of(found["timeline"].chart, tmp_path)
    marks = re.findall(
        r'transform="translate\(([\d.]+),[\d.]+\)"[^>]*aria-roledescription|aria-label="at: ([^;]+);', svg
    )
    places = {mark[0] or mark[1] for mark in marks}
    assert len(places) == 3


def test_speed_is_unknown_where_an_epoch_does_not_say_its_images(db: Store) -> None:
    """Not that of the others, and not 0."""
    fill(db, A)
    fill(db, B)
    assert db.write([make_epoch(B, 4, num_samples=None)])
    content = content_of(db)
    [seconds] = [row["duration_s"] for row in content.phases if row["run_id"] == A and row["name"] == "train"]
    assert images_per_s(content) == {A: pytest.approx(3 * 1149 / seconds)}
    figure = drawn(content)["timeline"]
    assert "2 runs. The speed of 1 is unknown." in figure.caption
    [rows] = [table for table in data_of(figure.chart) if "speed" in table[0]]
    assert {row["run_id"]: bool(row["speed"]) for row in rows} == {A: True, B: False}


def test_the_intensities_of_a_file_are_no_yearly_averages(db: Store) -> None:
    fill(db, A)
    fill(db, B, intensity=OF_A_FILE)
    assert "1 run came with a figure of its own instead." in drawn(content_of(db))["timeline"].caption


# What captions count


def test_captions_count_what_is_drawn() -> None:
    """More runs than there is room for: each caption has the number of runs that are in its chart's rows."""
    runs = [run_row(f"{i:012x}", model=f"m{i}", rank=i + 1) for i in range(110)]
    ids = [run["run_id"] for run in runs]
    epochs = [
        {"run_id": run_id, "epoch": epoch, "value": epoch / 9, "val_loss": 1.0, "energy_total_j": 5.0 * epoch}
        | {"num_samples": 10, "segment": 0}
        for run_id in ids
        for epoch in (1, 2)
    ]
    found = drawn(
        content_with(
            runs=runs,
            epochs=epochs,
            marginal=[{"run_id": run_id, "epoch": 2, "wh_per_point": 1.0} for run_id in ids],
            phases=[
                {"run_id": run_id, "name": "train", "duration_s": 1.0, "energy_kwh": 1.0}
                | {"cpu_kwh": 1.0, "gpu_kwh": 0.0, "ram_kwh": 0.0}
                for run_id in ids
            ],
            groups=[{"model": "m", "precision": "fp32", "max_epochs": 2, "run_ids": [run_id]} for run_id in ids],
        )
    )
    expected = {
        "leaderboard": "30 of 110 runs: the first 30 of a data set.",
        "tradeoff": "110 runs.",
        "learning": "100 of 110 runs: the first 100.",
        "marginal": "100 of 110 runs: the first 100.",
        "parts": "20 of 110 runs: the first 20.",
        "repeats": "30 of 110 runs: those of the first 30 recipes.",
        "heatmap": "20 of 110 runs: those of the first 20 models.",
    }
    for name, words in expected.items():
        assert f" {words} " in f" {found[name].caption} ", name
    for name in ("leaderboard", "tradeoff", "parts", "repeats"):
        number = int(expected[name].split()[0])
        shown = {row["run_id"] for table in data_of(found[name].chart) for row in table if "kwh" not in row}
        assert len(shown & {*ids}) == number, name
    for name, number in (("learning", 100), ("marginal", 100)):
        [table] = [table for table in data_of(found[name].chart) if "per_point" in table[0]]
        assert len({row["run_id"] for row in table}) == number, name
    [cells] = data_of(found["heatmap"].chart)
    assert len(cells) == 20


def test_captions_count_what_has_a_panel() -> None:
    """Runs of a fifth data set are left out, and do not lack their figures."""
    runs = [run_row(f"{i}" * 12, contest=f"c{i}", dataset=f"d{i}") for i in range(5)]
    found = drawn(content_with(runs=[*runs, run_row("a" * 12, contest="c0", dataset="d0", accuracy=None)]))
    assert "4 of 5 runs: the first 30 of a data set; 1 more without the figures." in found["leaderboard"].caption
    assert "1 more left out." in found["leaderboard"].caption


def test_a_run_without_an_end_is_not_counted_as_one(db: Store) -> None:
    """The first of its epochs has a known energy, the last has not."""
    record(db, A, [0.8, 0.9], [100.0, 100.0])
    record(db, B, [0.8, 0.9], [100.0, None])
    figure = drawn(content_of(db))["tradeoff"]
    [points] = [table for table in data_of(figure.chart) if table and "at" in table[0]]
    assert [row["run_id"] for row in points if row["at"] == "end"] == [A]
    assert "1 run; 1 more without the figures." in figure.caption


# What they share


def test_a_model_has_one_colour_everywhere(content: Content, found: dict[str, Figure]) -> None:
    models = list(dict.fromkeys(row["model"] for row in content.runs))
    expected = {"domain": models, "range": list(PALETTE[:2])}
    for figure in found.values():
        if figure.name in OWN_RUNS - {"parts", "elsewhere"}:
            scales = [
                value["scale"]
                for key, value in walk(figure.chart.to_dict(validate=False))
                if key == "color" and isinstance(value, dict) and value.get("field") == "model"
            ]
            assert scales, figure.name
            assert all(scale == expected for scale in scales), figure.name


@pytest.mark.parametrize("most", ["0", "1"])
def test_a_contest_has_one_name_and_one_place(db: Store, most: str) -> None:
    """The one with most runs is the first, in tables as in charts, whichever its hash is."""
    for seed, run_id in enumerate((A, B)):
        fill(db, run_id, seed=seed, data_hash=most)
    fill(db, C, data_hash={"0": "1", "1": "0"}[most])
    content = content_of(db)
    [first, second] = [table.title for table in tables.leaderboards(content)]
    assert f"data {most}," in first
    assert [title for _, title, _ in sheets.Sheet(runs=content.runs).panels] == [first, second]
    for name in ("leaderboard", "tradeoff", "learning"):
        spec = drawn(content)[name].chart.to_dict(validate=False)
        titles = [value for key, value in walk(spec) if key == "title" and isinstance(value, str) and "split" in value]
        assert titles == [first, second], name
    assert [row["num_runs"] for row in contests(db, [A, B, C])] == [2, 1]


def test_beyond_eight_models_the_rest_is_one() -> None:
    runs = [run_row(f"{i:012x}", model=f"m{i}") for i in range(12)]
    colour = sheets.Sheet(runs=runs).colour.to_dict()
    assert colour["domain"] == [*(f"m{i}" for i in range(7)), "5 other models"]
    assert len(set(colour["range"])) == 8


def test_names_that_are_cut_alike_stay_apart() -> None:
    long = "m" * 100
    runs = [run_row("0" * 12, model=long + "a" + long), run_row("1" * 12, model=long + "b" + long)]
    assert len(set(sheets.Sheet(runs=runs).colour.to_dict()["domain"])) == 2


def test_long_runs_keep_their_first_last_best_and_marked_epochs() -> None:
    epochs = [{"run_id": A, "epoch": epoch} for epoch in range(1, 1001)]
    sheet = sheets.Sheet(runs=[run_row(A, best_epoch=777)], epochs=epochs, kept=[(A, 555), (A, None)])
    numbers = [row["epoch"] for row in sheet.drawn_epochs]
    assert {1, 555, 777, 1000} <= set(numbers)
    assert len(numbers) <= sheets.MAX_POINTS + 3
    assert sheet.is_thinned


def test_a_page_of_a_hundred_runs_is_small() -> None:
    """The rows of epochs are there once for all charts: half a megabyte of the 2.5 that a page may have."""
    runs = [run_row(f"{i:012x}", best_epoch=100) for i in range(100)]
    epochs = [
        {
            "run_id": run["run_id"],
            "epoch": epoch,
            "value": (epoch + i) / 201,
            "val_loss": 1 / (epoch + i),
            "energy_total_j": 1e4 * epoch / (i + 3),
            "metric": "accuracy",
        }
        for i, run in enumerate(runs)
        for epoch in range(1, 101)
    ]
    sheet = sheets.Sheet(runs=runs, epochs=epochs)
    tradeoff, learning = (
        plots.tradeoff(sheet, []).to_dict(validate=False),
        plots.learning(sheet, []).to_dict(validate=False),
    )
    datasets = tradeoff["datasets"] | learning["datasets"]
    assert sum("val" in text[:40] and len(text) > 1e5 for text in datasets.values()) == 1
    assert len(json.dumps(datasets)) < 600_000


@pytest.mark.parametrize(
    ("kwh", "name"),
    [([0.2, None], "Wh"), ([2.0, 1e-6], "kWh"), ([2e-6], "mWh"), ([None, float("nan")], "mWh"), ([], "mWh")],
)
def test_axes_have_the_unit_of_the_largest(kwh: list[float | None], name: str) -> None:
    unit = sheets.energy_unit(kwh)
    assert unit.name == name
    assert unit.factor * {unit: size for size, unit in ENERGY}[name] == pytest.approx(JOULES_PER_KWH)


def test_the_unit_fits_epochs_where_no_total_is_known(db: Store) -> None:
    """A run with a gap at its end: what its first epochs took is known, and read in Wh."""
    record(db, A, [0.8, 0.9], [36_000.0, None])
    content = content_of(db)
    assert [row["energy_kwh"] for row in content.runs] == [None]
    assert sheets.Sheet(runs=content.runs, epochs=content.epochs).energy.name == "Wh"
    [epochs] = [table for table in data_of(drawn(content)["learning"].chart) if "loss" in table[0]]
    assert [row["energy"] for row in epochs] == ["10", ""]


def test_log_axes_have_few_round_marks() -> None:
    axis = sheets.amount("energy", "Wh", [0.03, 4.2, None, 0])["axis"].to_dict()
    assert axis["values"] == [0.05, 0.1, 0.2, 0.5, 1, 2, 5]
    assert "values" not in sheets.amount("energy", "Wh", [1.0, 5.0])["axis"].to_dict()
    wide = sheets.amount("energy", "Wh", [1e-9, 1e15])["axis"].to_dict()
    assert len(wide["values"]) <= 9


def test_files_are_white_and_charts_are_not(found: dict[str, Figure], tmp_path: Path) -> None:
    """A page shows charts on its own colour, light or dark."""
    from PIL import Image

    figure = found["leaderboard"]
    assert figure.chart.to_dict()["config"]["background"] == "transparent"
    plots.save_png(titled(figure.chart, figure.title, figure.caption), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert image.convert("RGBA").getpixel((2, image.height - 2)) == (255, 255, 255, 255)
        assert image.width > 600
    svg = svg_of(titled(figure.chart, figure.title, figure.caption), tmp_path)
    assert figure.title in svg
    assert not [url for url in re.findall(r"https?://[^\"'< ]+", svg) if "www.w3.org" not in url]


# The map


def test_every_shape_is_a_country() -> None:
    countries = grid.countries()
    numeric = {country.numeric for country in countries}
    drawn_ids = plots.drawn_ids()
    assert all(re.fullmatch(r"\d{3}", code) or code in ("Kosovo", "N. Cyprus", "Somaliland") for code in drawn_ids)
    assert len(drawn_ids & numeric) > 165
    assert "010" not in drawn_ids  # Antarctica has no grid, and is large


def test_the_map_outlines_where_runs_were(db: Store) -> None:
    fill(db, A, intensity=grid.resolve("US-CA"))
    fill(db, B, intensity=grid.resolve("SG"))
    fill(db, D, intensity=WORLD)
    figure = drawn(content_of(db))["map"]
    [rows] = [table for table in data_of(figure.chart) if "ran" in table[0]]
    assert {row["name"] for row in rows if row["ran"]} == {"United States", "Singapore"}
    assert "Too small to be drawn: Singapore." in figure.caption
    assert "Reckoned with the world average, without a factor of a place: 1 run." in figure.caption


def test_the_map_knows_whose_factor_is_the_worlds(db: Store) -> None:
    """A run with a factor of its own and no country is not; one in a country without a factor is."""
    fill(db, A, intensity=OF_A_FILE)
    fill(db, B, intensity=dataclasses.replace(WORLD, region_asked="AQ", country="Antarctica"))
    caption = drawn(content_of(db))["map"].caption
    assert "Reckoned with the world average, without a factor of a place: 1 run." in caption
    assert "With another factor, and no country on record: 1 run." in caption


def test_countries_are_those_that_a_region_resolves_to() -> None:
    countries = grid.countries()
    assert len(countries) > 200
    assert [country.name for country in countries] == sorted(country.name for country in countries)
    for country in countries[::20]:
        known = grid.resolve(country.alpha3)
        assert (country.g_per_kwh, country.year, country.source) == (known.g_per_kwh, known.year, known.source)
        assert country.name == known.country
    assert dataclasses.asdict(next(country for country in countries if country.alpha3 == "IND"))["numeric"] == "356"


def run_row(run_id: str, **changes: Any) -> dict[str, Any]:
    """A row of `leaderboard`, as much of it as charts want."""
    values: dict[str, Any] = {
        "run_id": run_id, "contest": "c", "dataset": "digits", "data_hash": "d", "split_hash": "s", "scope": "machine",
        "metric": "accuracy", "goal": "max", "model": "cnn",
        "precision": "fp32", "epochs": 1, "best_epoch": 1, "accuracy": 0.9, "energy_kwh": 0.001, "co2_g": 0.4,
        "pue": 1.0, "intensity_g_per_kwh": 400.0, "intensity_level": "world", "intensity_year": None,
        "region_used": "world", "country": None,
        "rank": 1, "unranked": None, "acc_per_kwh": 205.0, "source": "estimated", "tags": [], "season": None,
        "started_at": STARTED_AT,
    }  # fmt: skip
    return values | changes
