"""The runs of a page: the same names, colours and units in each of its charts, and each row on it once."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import altair as alt

from greenml import titles
from greenml.plots.theme import OTHERS, PALETTE, SUBTLE, WIDTH_PX, legible
from greenml.records import SIGNS
from greenml.units import ENERGY, JOULES_PER_KWH, JOULES_PER_WH, MASS, joules_of_kwh, kwh, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    Row = Mapping[str, Any]

MAX_RUNS = 100
"""More lines than this are no picture."""
MAX_POINTS = 100
"""Epochs of a run that are drawn; of more, every n-th."""
MAX_PANELS = 4
"""Contests (runs of one data set and split) that get a panel of their own."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2])
PLAIN = ",.6~g"
"""Figures as they are: the unit stands beside them, and no other prefix."""
COLUMNS = ("run_id", "epoch", "value", "loss", "energy", "per_point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit that fits a chart: its name, and what a value in the base unit is multiplied by."""

    name: str
    factor: float


def energy_unit(energies_kwh: Iterable[float | None]) -> Unit:
    """The one that fits the largest of these energies in kWh.

    >>> energy_unit([0.0002, None])
    Unit(name='mWh', factor=1000000.0)
    """
    size, name = unit_of([*map(joules_of_kwh, finite(energies_kwh))], ENERGY)
    return Unit(name=name, factor=JOULES_PER_KWH / size)


def mass_unit(grams: Iterable[float | None]) -> Unit:
    """The one that fits the largest of these masses."""
    size, name = unit_of(finite(grams), MASS)
    return Unit(name=name, factor=1 / size)


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are known, and numbers."""
    return [value for value in values if value is not None and math.isfinite(value)]


def spent_kwh(epoch: Row) -> float | None:
    """Of a row of `epochs`: what the run had taken by its end."""
    return None if epoch["energy_total_j"] is None else kwh(epoch["energy_total_j"])


def price_kwh(epoch: Row) -> float | None:
    """Of a row of `marginal`: what one more percentage point took."""
    return None if epoch["wh_per_point"] is None else kwh(epoch["wh_per_point"] * JOULES_PER_WH)


def scaled(value: float | None, factor: float = 1.0) -> float | None:
    """For drawing: seven significant digits are more than a screen has. What is not finite is unknown."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * factor:.7g}")


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Rows with the same keys, of text and numbers; equal rows in several charts are one data set of the page."""
    texts = {name for name in rows[0] if any(isinstance(row[name], str) for row in rows)}
    return table(list(rows[0]), (row.values() for row in rows), texts)


def table(columns: Sequence[str], rows: Iterable[Iterable[Any]], texts: Set[str]) -> alt.InlineData:
    """CSV: a third of the bytes of JSON, and nothing that Altair copies at each step. Unknown is empty, read as null.

    Columns in `texts` are text, though they look like numbers, and need to have no line breaks; the others are numbers.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_cell, row) for row in rows)
    parse = {name: "string" if name in texts else "number" for name in columns}
    return alt.InlineData(values=file.getvalue(), format=alt.CsvDataFormat(type="csv", parse=parse))


def looked_up(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    """Rows for a lookup, as JSON: Vega-Lite leaves the numbers of a looked-up CSV text."""
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return alt.InlineData(values=text, format=alt.JsonDataFormat(type="json"))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else None
    return int(value) if isinstance(value, bool) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Who is in a chart: for what is said beneath it, and for the chart itself."""

    run_ids: list[str]
    num_left_out: int
    """Runs that have the figures and no place."""

    @classmethod
    def first(cls, run_ids: Iterable[str], able: Set[str]) -> Shown:
        """Those drawn, of those that have the figures."""
        drawn = list(dict.fromkeys(run_ids))
        return cls(run_ids=drawn, num_left_out=len(able - {*drawn}))


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of `leaderboard` (best first), `epochs` and `marginal` as charts draw them."""

    runs: Sequence[Row]
    epochs: Sequence[Row] = ()
    marginal: Sequence[Row] = ()
    kept: Iterable[tuple[str, int | None]] = ()
    """Run and epoch of points that are drawn though there be too many: marks stand on them."""
    also: Iterable[str] = ()
    """Models of points whose runs are not among these."""

    # Who is who

    @cached_property
    def contests(self) -> list[tuple[str, str]]:
        """Contest and its name for people, in the order of the rows."""
        return [(contest, legible(title, 80)) for contest, title in titles.by_contest(self.runs).items()]

    @cached_property
    def panels(self) -> list[tuple[int, str, Row]]:
        """Number and title of the contests that are drawn, each with one of its runs."""
        of = {row["contest"]: row for row in self.runs}
        return [(i, title, of[contest]) for i, (contest, title) in enumerate(self.contests[:MAX_PANELS])]

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys([*(str(row["model"]) for row in self.runs), *self.also]))

    @cached_property
    def _series(self) -> dict[str, str]:
        """Model -> its place in the legend. Nobody tells more than eight colours apart: the rest is one."""
        own = self.models if len(self.models) <= len(PALETTE) else self.models[: len(PALETTE) - 1]
        rest = f"{len(self.models) - len(own)} other models"
        shown = {model: legible(model, 40) if model in own else rest for model in self.models}
        # Names that look the same once they are cut stay apart.
        if len({shown[model] for model in own}) < len(own):
            shown |= {model: f"{shown[model]} ({i})" for i, model in enumerate(own, 1)}
        return shown

    def series(self, model: str) -> str:
        """What the legend calls a model."""
        return self._series[model]

    @cached_property
    def colour(self) -> alt.Scale:
        """The same model has the same colour in every chart."""
        names = list(dict.fromkeys(self._series.values()))
        colours = list(PALETTE[: len(names)])
        if len(self.models) > len(PALETTE):
            colours[-1] = OTHERS
        return alt.Scale(domain=names, range=colours)

    @cached_property
    def precisions(self) -> list[str]:
        """What people start with comes first: it has the circle and the unbroken line."""
        named = dict.fromkeys(legible(row["precision"] or "unknown", 20) for row in self.runs)
        return sorted(named, key=lambda name: name != "fp32")

    @cached_property
    def shape(self) -> alt.Scale:
        return alt.Scale(domain=self.precisions, range=[SHAPES[i % len(SHAPES)] for i in range(len(self.precisions))])

    @cached_property
    def dash(self) -> alt.Scale:
        return alt.Scale(domain=self.precisions, range=[DASHES[i % len(DASHES)] for i in range(len(self.precisions))])

    @cached_property
    def labels(self) -> dict[str, str]:
        """Run id -> a name for people, no two alike."""
        return run_labels(self.runs)

    # Units

    @cached_property
    def energy(self) -> Unit:
        """Of every run's whole energy, and of what its epochs added up to: that is known where the whole is not."""
        return energy_unit([*(row["energy_kwh"] for row in self.runs), *map(spent_kwh, self.epochs)])

    @cached_property
    def mass(self) -> Unit:
        return mass_unit([row["co2_g"] for row in self.runs])

    @cached_property
    def per_point(self) -> Unit:
        return energy_unit(map(price_kwh, self.marginal))

    # What is drawn

    @cached_property
    def run_rows(self) -> list[dict[str, Any]]:
        order = {contest: i for i, (contest, _) in enumerate(self.contests)}
        return [
            {
                "run_id": row["run_id"],
                "run": self.labels[row["run_id"]],
                "place": place,
                "contest": order[row["contest"]],
                "model": self._series[str(row["model"])],
                "name": legible(row["model"], 60),
                "precision": legible(row["precision"] or "unknown", 20),
                "epochs": row["epochs"],
                "accuracy": scaled(row["accuracy"]),
                "energy": scaled(row["energy_kwh"], self.energy.factor),
                "kwh": scaled(row["energy_kwh"]),
                "grams": scaled(row["co2_g"], self.mass.factor),
                "mark": SIGNS.get(row["source"] or "", ""),
                "g_per_kwh": scaled(row["intensity_g_per_kwh"]),
                "pue": scaled(row["pue"]),
                "region": legible(row["region_used"] or "unknown", 40),
                "country": legible(row["country"] or "", 40),
            }
            for place, row in enumerate(self.runs, 1)
        ]

    @cached_property
    def run_data(self) -> alt.InlineData:
        """One row per run: what every chart may look up by `run_id`."""
        return looked_up(self.run_rows)

    @cached_property
    def epoch_data(self) -> alt.InlineData:
        """One row per epoch drawn: validation value and loss, cumulative energy, energy per point gained."""
        factor, per_point = self.energy.factor, self.per_point.factor
        prices = {(row["run_id"], row["epoch"]): price_kwh(row) for row in self.marginal}
        rows = (
            (
                row["run_id"],
                row["epoch"],
                row["value"],
                row["val_loss"],
                scaled(spent_kwh(row), factor),
                scaled(prices.get((row["run_id"], row["epoch"])), per_point),
            )
            for row in self.drawn_epochs
        )
        return table(COLUMNS, rows, {"run_id"})

    @cached_property
    def drawn_epochs(self) -> list[Row]:
        """Of at most MAX_RUNS runs every n-th epoch, and those that marks stand on."""
        runs = {row["run_id"]: row["best_epoch"] for row in self.runs[:MAX_RUNS]}
        last: dict[str, int] = {}
        for row in self.epochs:
            last[row["run_id"]] = max(row["epoch"], last.get(row["run_id"], 0))
        steps = {run_id: math.ceil(epoch / MAX_POINTS) for run_id, epoch in last.items()}
        kept = {*self.kept, *runs.items(), *last.items()}
        return [
            row
            for row in self.epochs
            if row["run_id"] in runs
            and ((row["epoch"] - 1) % steps[row["run_id"]] == 0 or (row["run_id"], row["epoch"]) in kept)
        ]

    @property
    def is_thinned(self) -> bool:
        """Whether a run has more epochs than are drawn of it."""
        return any(row["epoch"] > MAX_POINTS for row in self.epochs)

    def lookup(self, *fields: str) -> alt.LookupData:
        """What a chart of epochs wants to know of their run."""
        return alt.LookupData(data=self.run_data, key="run_id", fields=list(fields))

    # Encodings

    def coloured(self, **how: Any) -> alt.Color:
        """By model; a legend where there is more than one."""
        if len(self.models) < 2:
            how["legend"] = None
        else:
            longest = max(map(len, self._series.values()))
            how["legend"] = alt.Legend(columns=max(1, min(5, WIDTH_PX // (7 * longest + 36))))
        return alt.Color("model:N", scale=self.colour, **how)

    def shaped(self) -> alt.Shape:
        """Points by precision; a legend where there is more than one."""
        return alt.Shape("precision:N", scale=self.shape, legend=self._of_precision("fill"))

    def dashed(self) -> alt.StrokeDash:
        """Lines by precision."""
        return alt.StrokeDash("precision:N", scale=self.dash, legend=self._of_precision("stroke"))

    def _of_precision(self, symbol: str) -> alt.Legend | None:
        if len(self.precisions) < 2:
            return None
        if symbol == "stroke":
            return alt.Legend(symbolType="stroke", symbolStrokeColor=SUBTLE, symbolStrokeWidth=2, symbolSize=300)
        return alt.Legend(symbolFillColor=SUBTLE, symbolStrokeWidth=0)


def run_labels(runs: Sequence[Row]) -> dict[str, str]:
    """Run id -> "cnn, bf16 (4728)": with as much of the id as tells the runs apart."""
    ids = [row["run_id"] for row in runs]
    digits = num_digits(ids)
    return {
        row["run_id"]: ", ".join(filter(None, [legible(row["model"], 24), legible(row["precision"] or "", 12)]))
        + f" ({row['run_id'][:digits]})"
        for row in runs
    }


def num_digits(run_ids: Sequence[str]) -> int:
    """How much of the ids tells them apart; never less than four."""
    return next((n for n in range(4, 12) if len({run_id[:n] for run_id in run_ids}) == len(set(run_ids))), 12)


def is_percent(run: Row) -> bool:
    """Whether the contest of this run is judged by an accuracy."""
    return bool(run["metric"] == "accuracy")


def value_axis(run: Row) -> tuple[str, dict[str, Any]]:
    """Title and options of the axis on which validation is drawn."""
    if is_percent(run):
        return "validation accuracy", {"format": "%"}
    return f"validation {legible(run['metric'], 30)}", {"format": "~g"}


def amount(field: str, title: str, values: Iterable[float | None], **axis: Any) -> dict[str, Any]:
    """How an axis of amounts is drawn: logarithmic where they span more than a factor of ten, then with few lines."""
    known = [value for value in values if value is not None and value > 0]
    how: dict[str, Any] = {"title": title, "format": PLAIN, "tickCount": 6} | axis
    if known and max(known) > 10 * min(known):
        low, high = min(known) / 1.2, max(known) * 1.2
        scale = alt.Scale(type="log", domain=[scaled(low), scaled(high)])
        how["values"] = _marks_of_log(low, high)
        del how["tickCount"]
    else:
        scale = alt.Scale(zero=False, padding=12)
    return {"shorthand": f"{field}:Q", "scale": scale, "axis": alt.Axis(**how)}


def _marks_of_log(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... over few powers of ten; over many, each or every n-th of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = (1, 2, 5) if last - first <= 4 else (1,)
    step = math.ceil((last - first) / 8)
    marks = (float(f"{digit}e{power}") for power in range(first, last + 1, step) for digit in digits)
    return [mark for mark in marks if low <= mark <= high]
