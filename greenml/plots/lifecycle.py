"""Compressed models beside their parent: when they have paid for themselves, where the energy went, what pruning cost.

`rows` are rows of the view `break_even` at every batch size, with what `inference` knows of both models beside it
(`greenml.report.content`): `before_` stands before what is the parent's, `after_` before what is the compressed one's.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt

from greenml import levels
from greenml.plots.sheet import PLAIN, Shown, energy_unit, finite, inline, num_digits, scaled
from greenml.plots.theme import (
    GREEN,
    INK,
    LINE,
    OTHERS,
    PALETTE,
    SUBTLE,
    WIDTH_PX,
    Chart,
    faded,
    legible,
    pickable,
)
from greenml.records import SIGNS, Source
from greenml.units import JOULES_PER_WH, joules_of_kwh, wh

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Row = Mapping[str, Any]

BEFORE = "before"
"""The baseline that charts are held against: the parent, as `greenml predict` serves it."""
MAX_PARENTS = 3
"""Parents that get a panel of their own."""
COLOURS = (*PALETTE, OTHERS)
MAX_LINES = len(COLOURS)
"""Compressed models of a parent that are drawn: as many as `compress --all --student` makes. Nobody tells more colours
apart."""
TALL_PX, LABELS_PX, LABEL_PX = 330, 190, 31
NUM_POINTS = 60
"""Of a line: on logarithmic axes what is straight is bent."""
MAX_DECADES = 8
"""Powers of ten on the axis of predictions."""
COUNTS = (
    "datum.value < 1e6 ? format(datum.value, ',.0f') : "
    "datum.value < 1e9 ? format(datum.value / 1e6, ',~r') + ' million' : "
    "datum.value < 1e12 ? format(datum.value / 1e9, ',~r') + ' billion' : format(datum.value, '.0e')"
)
ENERGIES = (
    "datum.value >= 1e3 ? format(datum.value / 1e3, ',~r') + ' kWh' : datum.value >= 1 ? datum.value + ' Wh' : "
    "datum.value >= 1e-3 ? format(datum.value * 1e3, '~r') + ' mWh' : format(datum.value * 1e6, '~r') + ' µWh'"
)
GROUPS = {
    "the parent's training": ("#5b7a99", ()),
    "calibration": ("#e5d5b0", ("calibrate",)),
    "compressing, exporting": ("#c9773d", ("compress", "export")),
    "fine-tuning": ("#d9b44a", ("train", "validate", "checkpoint")),
    "test": ("#7d9b76", ("test",)),
    "the rest of compression": (OTHERS, ()),
    "measuring": ("#cfdbe8", ("infer",)),
}
"""Colour of each part of a bar, and the phases that it is made of; each pair of neighbours differs in lightness."""
OF_A_SESSION = tuple(
    f"{which}{end}_j_per_1000" for which in ("before", "after", "saved") for end in ("", "_low", "_high")
)
"""What is brought to the level of a parent's other sessions; what divides by it goes the other way."""
SPARSITY = re.compile(r"\b(prune) ([\d.]+)")
HOW = {
    Source.UNKNOWN: "energy partly unknown",
    Source.ESTIMATED: "energy estimated by a power model, not measured",
    Source.APPORTIONED: "energy split by time",
    Source.MEASURED: "energy measured",
    Source.ABSENT: "energy measured",
}
INHERITED, REST = "the parent's training", "the rest of compression"
BAR_PX = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A parent and the models that were made of it, as measured in batches of one size."""

    parent: str
    name: str
    """ "cnn (4728)"."""
    batch_size: int
    rows: list[Row]
    labels: list[str]
    """Of each row: its method, and where two are alike the run."""
    num_left_out: int

    @property
    def parent_j_per_1000(self) -> float | None:
        """What the parent took, as the median of the sessions in which it was measured."""
        return next(iter(finite(row["before_j_per_1000"] for row in self.rows)), None)


def families(rows: Sequence[Row], *, baseline: str = BEFORE) -> list[Family]:
    """One a parent, of its largest batch: the parent of most models first."""
    found = []
    own = [_levelled(row) for row in rows if row["baseline"] == baseline]
    digits = num_digits([row["parent"] or "" for row in own])
    for parent in dict.fromkeys(row["parent"] for row in own):
        batch_size = max(row["batch_size"] for row in own if row["parent"] == parent)
        members = [row for row in own if (row["parent"], row["batch_size"]) == (parent, batch_size)]
        drawn = members[:MAX_LINES]
        model = legible(next((row["parent_model"] for row in drawn if row["parent_model"]), None) or "the parent", 24)
        found.append(
            Family(
                parent=parent,
                name=f"{model} ({str(parent)[:digits]})",
                batch_size=batch_size,
                rows=drawn,
                labels=_labels(drawn),
                num_left_out=len(members) - len(drawn),
            )
        )
    return sorted(found, key=lambda family: -len(family.rows))[:MAX_PARENTS]


def _levelled(row: Row) -> Row:
    """As if its parent had taken in its session what it took in the median of them: what was measured side by side
    stays in proportion, and lines cross where their models have paid."""
    level = row["level"]
    more = {field: row[field] * level for field in OF_A_SESSION if row.get(field) is not None}
    less = {
        field: row[field] / level
        for field in ("break_even", "break_even_low", "break_even_high")
        if row.get(field) is not None
    }
    return {**row, **more, **less}


def compressed_runs(rows: Sequence[Row]) -> Shown:
    """The compressed models that have a place in the charts."""
    return Shown.first(
        [row["run_id"] for family in families(rows) for row in family.rows], {row["run_id"] for row in rows}
    )


def predictions(number: float) -> str:
    """A number of predictions as people say it, three digits of it: "171,000", "1.71 million"."""
    if number < 1e3:
        return f"{math.ceil(number):,}"
    digits = 2 - math.floor(math.log10(number))
    short = round(number, digits)
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if short >= size:
            return f"{short / size:,.3g} {name}" if short < 1e15 else f"{short:.2g}"
    return f"{short:,.0f}"


def _labels(rows: Sequence[Row]) -> list[str]:
    names = [legible(row["method"] or row["model"], 26) for row in rows]
    digits = num_digits([row["run_id"] for row in rows])
    return [
        f"{name} ({row['run_id'][:digits]})" if names.count(name) > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]


# When it has paid for itself


def lifecycle(rows: Sequence[Row], *, baseline: str = BEFORE) -> Chart | None:
    """Energy of compression and N predictions against N, a line a model; where a line crosses the parent's, a point.

    What training the parent took is in no line, as all of them would begin with it; it is drawn across, to compare.
    None where of no model the energy of its predictions and of making it are known.
    """
    panels = [panel for family in families(rows, baseline=baseline) if (panel := _lives(family)) is not None]
    if not panels:
        return None
    return pickable(panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=28))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    """A line: what there is to pay at first, and for each prediction."""

    run_id: str
    label: str
    words: str
    """Below its label: when it pays."""
    colour: str
    start_wh: float
    each_wh: float
    low_wh: float
    high_wh: float
    row: Row | None
    """None of the parent."""

    @property
    def verdict(self) -> str:
        return str(self.row["verdict"]) if self.row else "parent"

    def at(self, number: float, each_wh: float | None = None) -> float:
        return self.start_wh + number * (self.each_wh if each_wh is None else each_wh)


def _lives(family: Family) -> Any:
    lives = [*_parents(family), *_children(family)]
    if len(lives) < 2 or not lives[0].each_wh:
        return None
    first, last = _reach(lives, family)
    bottom = min(life.at(first) for life in lives) / 1.5
    top = max(life.at(last, life.high_wh) for life in lives) * 1.5
    x = alt.X("predictions:Q", **_counted(first, last, f"predictions, in batches of {family.batch_size:,}"))
    energies = _energies(bottom, top)
    y = alt.Y("energy:Q", **energies)
    colour = alt.Color("colour:N", scale=None, legend=None)
    points = [
        {
            "run_id": life.run_id,
            "model": life.label,
            "colour": life.colour,
            "predictions": scaled(number),
            "energy": scaled(life.at(number)),
            "low": scaled(max(bottom, life.at(number, life.low_wh))),
            "high": scaled(life.at(number, life.high_wh)),
            "verdict": life.verdict,
        }
        for life in lives
        for number in _steps(first, last)
    ]
    base = alt.Chart(inline(points)).encode(x=x, color=colour)
    said = [
        alt.Tooltip("model:N"),
        alt.Tooltip("predictions:Q", format=",.3~r"),
        alt.Tooltip("energy:Q", title="Wh", format=",.3~r"),
    ]
    band = base.mark_area().encode(y=alt.Y("low:Q", **energies), y2="high:Q", opacity=faded(0.25), detail="run_id:N")
    dashes = alt.Scale(domain=["parent", "pays", "never", "unknown"], range=[[1, 0], [1, 0], [6, 3], [2, 2]])
    dash = alt.StrokeDash("verdict:N", scale=dashes, legend=None)
    lines = base.mark_line(strokeWidth=2.2).encode(
        y=y, strokeDash=dash, detail="run_id:N", opacity=faded(), tooltip=said
    )
    layers = [band, *_trained(family, first, bottom, top, y), lines, *_crossings(lives, x, y, first, last)]
    plot = alt.layer(*layers).properties(width=WIDTH_PX - 130, height=TALL_PX)
    strip = _strip(lives, last, bottom, top)
    title = alt.TitleParams(f"{family.name}, batches of {family.batch_size:,}", subtitle=_told(family))
    return alt.hconcat(plot, strip, spacing=2).properties(title=title)


def _parents(family: Family) -> Iterator[_Life]:
    each = family.parent_j_per_1000
    if each is not None:
        lows = finite(row["before_low_j_per_1000"] for row in family.rows)
        highs = finite(row["before_high_j_per_1000"] for row in family.rows)
        yield _Life(
            run_id=family.parent,
            label=f"parent: {family.name}",
            words=_runtime(family.rows[0], "before"),
            colour=INK,
            start_wh=0.0,
            each_wh=_each(each),
            low_wh=_each(max(0.0, min([*lows, each]))),
            high_wh=_each(max([*highs, each])),
            row=None,
        )


def _children(family: Family) -> Iterator[_Life]:
    for row, label, colour in zip(family.rows, family.labels, COLOURS, strict=False):
        if not _is_known(row):
            continue
        each = row["after_j_per_1000"]
        low, high = row["after_low_j_per_1000"], row["after_high_j_per_1000"]
        yield _Life(
            run_id=row["run_id"],
            label=f"{label}: {_runtime(row, 'after')}",
            words=_verdict(row),
            colour=colour,
            start_wh=wh(joules_of_kwh(row["compress_kwh"])),
            each_wh=_each(each),
            low_wh=_each(each if low is None else max(0.0, low)),
            high_wh=_each(each if high is None else high),
            row=row,
        )


def _is_known(row: Row) -> bool:
    """Whether there is a line to draw: also not of what took nothing at all, which is no measurement."""
    costs = (row["compress_kwh"], row["after_j_per_1000"])
    return None not in costs and min(costs) >= 0 < max(costs)


def _each(j_per_1000: float) -> float:
    """Joules per 1000 predictions -> Wh of one."""
    return j_per_1000 / 1000 / JOULES_PER_WH


def _verdict(row: Row) -> str:
    if row["verdict"] == "pays" and row["break_even"] is not None:
        return f"pays after {predictions(row['break_even'])} predictions"
    return "never pays" if row["verdict"] == "never" else "nobody knows whether it pays"


def _runtime(row: Row, which: str) -> str:
    """ "openvino int8"."""
    parts = [row[f"{which}_backend"], row[f"{which}_precision"]]
    return legible(" ".join(filter(None, parts)) or "runtime unknown", 24)


def _reach(lives: Sequence[_Life], family: Family) -> tuple[float, float]:
    """The first and the last number of predictions that is drawn, powers of ten around what there is to be seen."""
    parent, *children = lives
    crossings = [life.row["break_even"] for life in children if life.row and life.row["verdict"] == "pays"]
    # Where the parent has taken as much as compression did, or as its own training, there is something to see, too.
    seen = [*finite(crossings), *(life.start_wh / parent.each_wh for life in children if life.start_wh)]
    trained = [row["train_kwh"] for row in family.rows if row["train_kwh"]]
    if trained:
        seen.append(wh(joules_of_kwh(max(trained))) / parent.each_wh)
    first = math.floor(math.log10(max(1.0, min(seen, default=1e3))) - 0.5)
    last = math.ceil(math.log10(max(10.0, *seen, 1e3)) + 0.3)
    return 10.0 ** max(0, first), 10.0 ** min(last, max(0, first) + MAX_DECADES)


def _steps(first: float, last: float) -> list[float]:
    low, high = math.log10(first), math.log10(last)
    return [10 ** (low + (high - low) * i / (NUM_POINTS - 1)) for i in range(NUM_POINTS)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between, at most eight of them."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{power}") for power in range(first, last + 1, max(1, math.ceil((last - first) / 8)))]


def _counted(first: float, last: float, title: str) -> dict[str, Any]:
    values = _powers(first, last)
    axis = alt.Axis(title=title, values=values, labelExpr=COUNTS, labelOverlap="greedy", grid=True)
    return {"scale": alt.Scale(type="log", domain=[first, last], nice=False), "axis": axis}


def _energies(bottom: float, top: float) -> dict[str, Any]:
    axis = alt.Axis(title="energy beyond the parent's training", values=_powers(bottom, top), labelExpr=ENERGIES)
    return {"scale": alt.Scale(type="log", domain=[scaled(bottom), scaled(top)], nice=False), "axis": axis}


def _trained(family: Family, first: float, bottom: float, top: float, y: alt.Y) -> Iterator[Any]:
    """A line across at what the training took, where it is in reach."""
    trained = [row["train_kwh"] for row in family.rows if row["train_kwh"]]
    if not trained or not bottom < (energy := wh(joules_of_kwh(max(trained)))) < top:
        return
    source = _worst(family, "train_source")
    unit = energy_unit([max(trained)])
    words = f"training the parent took {SIGNS.get(source, '')}{max(trained) * unit.factor:,.3g} {unit.name}"
    base = alt.Chart(inline([{"predictions": first, "energy": scaled(energy), "said": words}]))
    yield base.mark_rule(color=SUBTLE, strokeDash=[3, 3]).encode(y=y)
    text = base.mark_text(align="left", baseline="bottom", dx=6, dy=-4, color=SUBTLE)
    yield text.encode(x="predictions:Q", y=y, text="said:N")


def _crossings(lives: Sequence[_Life], x: alt.X, y: alt.Y, first: float, last: float) -> Iterator[Any]:
    """Points where lines cross that of the parent, and how far they may lie to either side."""
    crossed = [
        {
            "run_id": life.run_id,
            "model": life.label,
            "said": life.words,
            "colour": life.colour,
            "predictions": scaled(life.row["break_even"]),
            "from": scaled(max(first, life.row["break_even_low"] or first)),
            "to": scaled(min(last, life.row["break_even_high"] or last)),
            "energy": scaled(life.at(life.row["break_even"])),
        }
        for life in lives
        if life.row and life.row["verdict"] == "pays" and first <= (life.row["break_even"] or 0) <= last
    ]
    if not crossed:
        return
    base = alt.Chart(inline(crossed)).encode(y=y, opacity=faded())
    colour = alt.Color("colour:N", scale=None, legend=None)
    yield base.mark_rule(strokeWidth=5).encode(x=alt.X("from:Q"), x2="to:Q", color=colour, opacity=faded(0.6))
    said = [alt.Tooltip("model:N"), alt.Tooltip("said:N", title="break-even")]
    point = base.mark_point(filled=True, size=110, stroke=INK, strokeWidth=1.2, opacity=1)
    yield point.encode(x=x, fill=colour, tooltip=said)


def _strip(lives: Sequence[_Life], last: float, bottom: float, top: float) -> Any:
    """What each line is, where it ends: moved apart where they end too close together."""
    span = math.log(top / bottom)
    ends = {life.run_id: TALL_PX * (1 - math.log(life.at(last) / bottom) / span) for life in lives}
    places = apart([ends[life.run_id] for life in lives], LABEL_PX, TALL_PX)
    labels = [
        {
            "run_id": life.run_id,
            "label": life.label,
            "words": life.words,
            "colour": life.colour,
            "end": scaled(ends[life.run_id]),
            "place": scaled(place),
            "from": 0,
            "to": 12,
            "then": 26,
        }
        for life, place in zip(lives, places, strict=True)
    ]
    across = alt.Scale(domain=[0, LABELS_PX], nice=False, zero=False)
    down = alt.Scale(domain=[0, TALL_PX], reverse=True, nice=False, zero=False)
    y = alt.Y("place:Q", scale=down, axis=None)
    base = alt.Chart(inline(labels)).encode(opacity=faded())
    left = alt.X("from:Q", scale=across, axis=None)
    colour = alt.Color("colour:N", scale=None, legend=None)
    leader = base.mark_rule(strokeWidth=1.2).encode(
        x=left, x2="to:Q", y=alt.Y("end:Q", scale=down, axis=None), y2="place:Q", color=colour
    )
    swatch = base.mark_rule(strokeWidth=4).encode(
        x=alt.X("to:Q", scale=across, axis=None), x2="then:Q", y=y, color=colour
    )
    right = alt.X("then:Q", scale=across, axis=None)
    name = base.mark_text(align="left", baseline="bottom", dx=5, dy=1, limit=LABELS_PX + 40).encode(
        x=right, y=y, text="label:N"
    )
    words = base.mark_text(align="left", baseline="top", dx=5, dy=2, color=SUBTLE, fontSize=11).encode(
        x=right, y=y, text="words:N"
    )
    return alt.layer(leader, swatch, name, words).properties(width=LABELS_PX, height=TALL_PX)


def apart(places: Sequence[float], gap: float, room: float) -> list[float]:
    """The same places in the same order, each at least `gap` from the next, and all within `room` where they fit."""
    order = sorted(range(len(places)), key=places.__getitem__)
    # Blocks of neighbours that touch, each with its members' mean place: the least that all of them are moved together.
    blocks: list[list[float]] = []
    for rank, i in enumerate(order):
        blocks.append([places[i] - rank * gap])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    flat = [_mean(block) for block in blocks for _ in block]
    least, most = gap / 2, room - gap / 2 - (len(places) - 1) * gap
    moved = [max(least, min(most, place)) + rank * gap for rank, place in enumerate(flat)]
    back = dict(zip(order, moved, strict=True))
    return [back[i] for i in range(len(places))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _told(family: Family) -> list[str]:
    """What stands above a panel: in which runtime, how the energy is known, and what no line says."""
    before = _runtime(family.rows[0], "before")
    told = [
        f"Against the parent in {before}; {HOW[_worst(family)]}.",
        "Points: where a model has taken as much as its parent would have, its compression included.",
    ]
    if levels.apart(family.rows):
        told.append("The parent's energy differed from session to session: all are brought to its median.")
    never = [label for row, label in zip(family.rows, family.labels, strict=True) if row["verdict"] == "never"]
    unknown = [label for row, label in zip(family.rows, family.labels, strict=True) if not _is_known(row)]
    if never:
        told.append(f"Never, as far as anybody can tell: {', '.join(never)}.")
    if unknown:
        told.append(f"No line, as their energy is unknown: {', '.join(unknown)}.")
    return [line for words in told for line in textwrap.wrap(words, LINE)]


# Where the energy went, and what is left of the accuracy


def by_phase(rows: Sequence[Row], phases: Sequence[Row]) -> Chart | None:
    """Energy of parent and compressed models by phase, and of compression alone; beside them the accuracy on test.

    `phases` have one row per compressed run and name of a phase. Only what is known as a whole has a bar: a stack over
    a gap is no total. None where of no model it is known.
    """
    panels = [panel for family in families(rows) if (panel := _stacks(family, phases)) is not None]
    if not panels:
        return None
    return pickable(panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=28))


def _stacks(family: Family, phases: Sequence[Row]) -> Any:
    of = {name: group for group, (_, names) in GROUPS.items() for name in names}
    unit = energy_unit([row["train_kwh"] for row in family.rows] + [row["compress_kwh"] for row in family.rows])
    bars, reached = [], []
    trained = max(finite(row["train_kwh"] for row in family.rows if row["parent"] == family.parent), default=None)
    lines: list[tuple[str, str, Row | None]] = [(family.parent, f"parent: {family.name}", None)]
    lines += [(row["run_id"], label, row) for row, label in zip(family.rows, family.labels, strict=True)]
    for place, (run_id, label, row) in enumerate(lines):
        about = {"run_id": run_id, "run": label, "place": place}
        own = [phase for phase in phases if row and phase["run_id"] == run_id]
        inherited = row["train_kwh"] if row else trained
        parts = {INHERITED: inherited} | _grouped(own, of)
        if None in parts.values():
            parts = {}
        bars += [
            {**about, "part": part, "energy": scaled(energy, unit.factor), "is_own": int(part != INHERITED)}
            for part, energy in parts.items()
            if energy
        ]
        reached.append({**about, "said": "" if parts else "not all of its energy is known", **_accuracy(family, row)})
    if not any(bar["is_own"] for bar in bars):
        return None
    order = [label for _, label, _ in lines]
    # Of points, too, which else have a scale of their own kind and would not stand beside their bars.
    band = alt.Scale(type="band", domain=order)
    words = alt.Axis(title=None, domain=False, ticks=False, labelColor=INK, labelLimit=200)
    y = alt.Y("run:N", sort=order, scale=band, axis=words)
    bare = alt.Y("run:N", sort=order, scale=band, axis=None)
    all_in = _stacked(bars, y, f"all in, {unit.name}")
    gaps = [line for line in reached if line["said"]]
    if gaps:
        text = alt.Chart(inline(gaps)).mark_text(align="left", dx=2, color=SUBTLE, fontStyle="italic", fontSize=11)
        all_in = alt.layer(all_in, text.encode(x=alt.value(0), y=y, text="said:N"))
    alone = _stacked([bar for bar in bars if bar["is_own"]], bare, f"of it, its own run, {unit.name}")
    panels = [all_in.properties(width=190), alone.properties(width=170)]
    known = [line for line in reached if line["accuracy"] is not None]
    if known:
        panels.append(_scores(known, bare).properties(width=150, height=alt.Step(BAR_PX)))
    title = alt.TitleParams(family.name, subtitle=_sources(family))
    return alt.hconcat(*panels, spacing=22).properties(title=title)


def _grouped(phases: Sequence[Row], of: Mapping[str, str]) -> dict[str, float | None]:
    """What each part of compression took, in kWh; None where one of its phases is unknown."""
    parts: dict[str, float | None] = {}
    for phase in phases:
        part = of.get(phase["name"], REST)
        before = parts.get(part, 0.0)
        parts[part] = None if before is None or phase["energy_kwh"] is None else before + phase["energy_kwh"]
    return parts


def _accuracy(family: Family, row: Row | None) -> dict[str, float | None]:
    """On the test split; the interval is that of the difference to the parent, over the same images."""
    if row is None:
        known = [
            line["accuracy"] - line["accuracy_difference"]
            for line in family.rows
            if line["accuracy"] is not None and line["accuracy_difference"] is not None
        ]
        reached = scaled(known[0]) if known else None
        return {"accuracy": reached, "low": reached, "high": reached, "parent": reached}
    if row["accuracy"] is None or row["accuracy_difference"] is None:
        return {"accuracy": scaled(row["accuracy"]), "low": None, "high": None, "parent": None}
    parent = row["accuracy"] - row["accuracy_difference"]
    low, high = (row["accuracy_low"], row["accuracy_high"])
    return {
        "accuracy": scaled(row["accuracy"]),
        "low": None if low is None else scaled(parent + low),
        "high": None if high is None else scaled(parent + high),
        "parent": scaled(parent),
    }


def _stacked(bars: list[dict[str, Any]], y: alt.Y, title: str) -> Any:
    there = [part for part in GROUPS if any(bar["part"] == part for bar in bars)]
    order = [*GROUPS]
    scale = alt.Scale(domain=order, range=[GROUPS[part][0] for part in order])
    rows = [bar | {"layer": order.index(bar["part"])} for bar in bars]
    legend = alt.Legend(values=there, columns=3) if INHERITED in there else None
    return (
        alt.Chart(inline(rows), height=alt.Step(BAR_PX))
        .mark_bar(height=15)
        .encode(
            x=alt.X("sum(energy):Q", stack="zero", axis=alt.Axis(title=title, format=PLAIN, tickCount=4)),
            y=y,
            color=alt.Color("part:N", scale=scale, legend=legend),
            order=alt.Order("layer:Q"),
            detail="run_id:N",
            opacity=faded(),
            tooltip=[alt.Tooltip("run:N"), alt.Tooltip("part:N"), alt.Tooltip("sum(energy):Q", format=".3~r")],
        )
    )


def _scores(known: list[dict[str, Any]], y: alt.Y) -> Any:
    """Points with their interval, and a line where the parent stands."""
    ends = finite(line[end] for line in known for end in ("accuracy", "low", "high"))
    # Room at the right for the figure beside the best point.
    low, high = min(ends), max(ends)
    room = max(0.45 * (high - low), 0.01)
    scale = alt.Scale(domain=[scaled(low - room / 6), scaled(high + room)], nice=False, zero=False)
    axis = alt.Axis(title="test accuracy", format="~%", tickCount=3)
    x = alt.X("accuracy:Q", scale=scale, axis=axis)
    rows = [line | {"end": max(finite([line["accuracy"], line["high"]]))} for line in known]
    base = alt.Chart(inline(rows)).encode(y=y, opacity=faded())
    said = [alt.Tooltip("run:N"), alt.Tooltip("accuracy:Q", title="test accuracy", format=".2%")]
    line = base.transform_filter("datum.place === 0").mark_rule(color=SUBTLE, strokeDash=[3, 3]).encode(x=x)
    # Of one row, but from top to bottom.
    line = line.encode(y=alt.value(0), y2=alt.value("height"))
    interval = base.mark_rule(strokeWidth=2, color=GREEN).encode(x=alt.X("low:Q", axis=axis), x2="high:Q")
    point = base.mark_point(filled=True, size=70, color=GREEN, opacity=1).encode(x=x, tooltip=said)
    figure = base.mark_text(align="left", dx=7, fontSize=11).encode(
        x=alt.X("end:Q", axis=axis), text=alt.Text("accuracy:Q", format=".1%")
    )
    return alt.layer(line, interval, point, figure)


def _sources(family: Family) -> list[str]:
    how = HOW[_worst(family, "train_source", "compress_source")]
    return [
        f"{how[0].upper()}{how[1:]}. Accuracy with the 95 % interval of its difference to the parent.",
    ]


def _worst(family: Family, *fields: str) -> Source:
    """Where the energy of a family is from: as good as its worst part."""
    fields = fields or ("source", "compress_source")
    return Source.worst([Source(row[field] or Source.UNKNOWN) for row in family.rows for field in fields])


# A series of one method


def sparsity_series(rows: Sequence[Row]) -> Chart | None:
    """Accuracy and energy of predictions of several prunings of one parent, against the operations that are left.

    One line for each chain of methods that differ in their sparsity alone; the parent is the point at 100 %. None where
    no parent was pruned twice.
    """
    panels = [panel for family in families(rows) if (panel := _series(family)) is not None]
    if not panels:
        return None
    return pickable(panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=28))


def pruned(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Chain of methods without its sparsity -> the models that it gave, where there are two or more."""
    chains: dict[str, list[Row]] = {}
    for row in rows:
        found = SPARSITY.search(row["method"] or "")
        if found and row["before_flops"] and row["after_flops"]:
            chains.setdefault(row["method"].replace(found[0], found[1]), []).append(row)
    return {chain: members for chain, members in chains.items() if len(members) > 1}


def _series(family: Family) -> Any:
    points = []
    for chain, members in pruned(family.rows).items():
        for row in members:
            score = _accuracy(family, row)
            points.append(
                {
                    "run_id": row["run_id"],
                    "chain": legible(chain, 40),
                    "sparsity": SPARSITY.search(row["method"])[2],  # type: ignore[index]
                    "left": scaled(row["after_flops"] / row["before_flops"]),
                    "accuracy": score["accuracy"],
                    "accuracy_low": score["low"],
                    "accuracy_high": score["high"],
                    "energy": scaled(row["after_j_per_1000"]),
                    "energy_low": scaled(row["after_low_j_per_1000"]),
                    "energy_high": scaled(row["after_high_j_per_1000"]),
                }
            )
    if not points:
        return None
    each = family.parent_j_per_1000
    parent = {
        "run_id": family.parent,
        "left": 1.0,
        "said": "parent",
        "accuracy": _accuracy(family, None)["accuracy"],
        "energy": scaled(each),
    }
    chains = list(dict.fromkeys(point["chain"] for point in points))
    colour = alt.Color(
        "chain:N",
        scale=alt.Scale(domain=chains, range=[*COLOURS[: len(chains)]]),
        legend=alt.Legend(columns=3) if len(chains) > 1 else None,
    )
    panels = [
        _against(points, parent, colour, field, title, form)
        for field, title, form in (
            ("accuracy", "test accuracy", "~%"),
            ("energy", f"J per 1,000 predictions, batches of {family.batch_size:,}", PLAIN),
        )
        if any(point[field] is not None for point in points)
    ]
    if not panels:
        return None
    runtime = _runtime(family.rows[0], "before")
    told = f"Figures beside points: the sparsity that was asked for. Parent in {runtime}; {HOW[_worst(family)]}."
    title = alt.TitleParams(f"{family.name}: {' and '.join(chains)}", subtitle=textwrap.wrap(told, LINE))
    return alt.hconcat(*panels, spacing=34).properties(title=title)


def _against(
    points: list[dict[str, Any]], parent: dict[str, Any], colour: alt.Color, field: str, title: str, form: str
) -> Any:
    axis = alt.Axis(title="operations of a prediction, parent = 100 %", format="%", tickCount=4)
    x = alt.X("left:Q", scale=alt.Scale(domain=[0, 1.05], nice=False), axis=axis)
    values = finite([*(row[end] for row in points for end in (field, f"{field}_low", f"{field}_high")), parent[field]])
    low = 0.0 if field == "energy" else min(values)
    high = 1.15 * max(values) if field == "energy" else max(values)
    scale = alt.Scale(domain=[low, high], nice=True, zero=False, padding=0 if field == "energy" else 12)
    head = alt.Axis(title=title, format=form, tickCount=5)
    y = alt.Y(f"{field}:Q", scale=scale, axis=head)
    base = alt.Chart(inline(points)).encode(x=x, opacity=faded())
    said = [
        alt.Tooltip("chain:N", title="method"),
        alt.Tooltip("sparsity:N"),
        alt.Tooltip("left:Q", title="operations left", format=".1%"),
        alt.Tooltip(f"{field}:Q", title=title, format=".3~r" if field == "energy" else ".2%"),
    ]
    layers = [
        base.mark_line(strokeWidth=1.5).encode(y=y, color=colour, order=alt.Order("left:Q"), opacity=faded(0.6)),
        base.mark_rule(strokeWidth=2).encode(
            y=alt.Y(f"{field}_low:Q", scale=scale, axis=head), y2=f"{field}_high:Q", color=colour
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, color=colour, tooltip=said),
    ]
    # Beside each other's points figures would lie upon each other: those of the first line stand above it.
    for is_first, dy in ((True, -9), (False, 10)):
        own = [row for row in points if (row["chain"] == points[0]["chain"]) is is_first]
        if own:
            text = alt.Chart(inline(own)).mark_text(
                align="right" if is_first else "left", dx=-7 if is_first else 7, dy=dy
            )
            layers.append(text.encode(x=x, y=y, text="sparsity:N", opacity=faded()))
    if parent[field] is not None:
        of = alt.Chart(inline([parent])).encode(x=x, y=y)
        layers += [
            of.mark_point(filled=True, size=90, color=INK, shape="diamond", opacity=1),
            of.mark_text(align="right", dx=12, dy=-12, fontSize=11).encode(text="said:N"),
        ]
    return alt.layer(*layers).properties(width=250, height=210)
