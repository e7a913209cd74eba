"""One page in one file: words, tables and charts, and everything that they need to be looked at anywhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml import __version__, console
from greenml.console import SOURCES, counted, local, plain
from greenml.report import compression, tables
from greenml.report.equivalences import equivalences
from greenml.report.method import LIMITS, METHOD
from greenml.units import format_duration, format_energy, format_mass, joules_of_kwh

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from greenml.recommend import Advice
    from greenml.report.content import Content
    from greenml.report.figures import Figure

    Row = dict[str, Any]

HERE = Path(__file__).parent
DIGITS = 7
"""Significant digits of numbers in charts; tables hold them as the view answered (tests/test_report_page.py)."""
AT_LEAST, _ = SOURCES["unknown"]
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def page(content: Content, advice: Sequence[Advice], *, written_at: datetime) -> str:
    """The page of one run or more as HTML: it asks for nothing from outside, and no name in it can run.

    `written_at` is UTC, naive.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from greenml.report.library import javascript, prepare

    prepare()
    from greenml.report.figures import figures

    drawn = figures(content)
    charts = embedded(drawn)
    scripts = [inline(script) for script in (javascript(), (HERE / "page.js").read_text(encoding="utf-8"))]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = printable
    environment.filters["exact"] = exact
    return environment.get_template("page.html").render(
        title=f"What {counted(len(content.runs), 'run')} took, and what came of it",
        content=content,
        total=content.totals,
        headline=headline(content.totals),
        advice=advice,
        equivalences=equivalences_of(content.totals),
        leaderboards=tables.leaderboards(content),
        figures=drawn,
        swaps=tables.swaps(content),
        savings=tables.savings(content),
        groups=tables.groups(content),
        break_even=tables.break_even(content),
        sweeps=tables.sweeps(content),
        sweep_front=tables.sweep_front(content),
        served=compression.served(content),
        paid=compression.paid(content),
        compression_sentences=compression.sentences(content),
        compression_notes=compression.notes(content) if content.compressed else [],
        factors=tables.factors(content),
        decisions=tables.decisions(content),
        meters=tables.meters(content),
        unranked=Counter(row["unranked"] for row in content.runs if row["unranked"]),
        machines=distinct(content.runs, "hardware"),
        versions=distinct(content.runs, "versions"),
        commands=tables.commands(content.runs),
        method=METHOD,
        limits=LIMITS,
        digits=DIGITS,
        legends={source: legend for source, (_, legend) in SOURCES.items()},
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=policy(scripts),
        charts=charts,
        written_at=local(written_at),
        version=__version__,
        counted=counted,
        local=local,
    )


def printable(value: Any) -> Any:
    """What users named, without what turns the direction of writing; markup of our own as it is."""
    return console.clean(value) if type(value) is str else value


def exact(value: Any) -> str:
    """A value of a view as text that says all of it."""
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value)


# The words at the top


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One of the large figures at the top."""

    label: str
    text: str
    value: Any
    """The exact number behind it, of the column `field`; None where it is unknown."""
    field: str
    note: str = ""


def headline(total: Row) -> list[Fact]:
    """`total` is that of `rows.totals`."""
    sign, _ = SOURCES.get(total["worst_source"], ("", ""))
    energy, co2, time = (known(total, name) for name in ("kwh", "co2_g", "s"))
    unknown = "unknown" if total["num_metered"] else "none metered"
    num_left_out = total["num_runs"] - total["num_metered"]
    notes = [
        f"of {counted(total['num_unknown'], 'run')} not all is known" if total["num_unknown"] else "",
        f"{counted(num_left_out, 'run')} took none here: never metered, or replayed" if num_left_out else "",
        f"{counted(total['num_overlapping'], 'run')} shared a machine, and each counts all of it"
        if total["num_overlapping"]
        else "",
    ]
    return [
        Fact(
            label="runs",
            text=f"{total['num_runs']:,}",
            value=total["num_runs"],
            field="num_runs",
            note=f"and {counted(total['num_sweeps'], 'sweep')}, counted with what each took beside its trials"
            if total["num_sweeps"]
            else "",
        ),
        Fact(
            label="data sets and splits",
            text=f"{total['num_contests']:,}",
            value=total["num_contests"],
            field="num_contests",
            note="runs are compared within one",
        ),
        Fact(
            label="energy",
            text=sign + format_energy(joules_of_kwh(total[energy])) if total[energy] else unknown,
            value=total[energy] or None,
            field=energy,
            note="; ".join(filter(None, notes)),
        ),
        Fact(
            label="CO2e",
            text=sign + format_mass(total[co2]) if total[co2] else unknown,
            value=total[co2] or None,
            field=co2,
            note="at the grid factors below",
        ),
        Fact(
            label="machine time",
            text=("" if total["total_s"] is not None else AT_LEAST) + in_units(total[time]) if total[time] else unknown,
            value=total[time] or None,
            field=time,
            note=f"{local(total['first_started_at'])} to {local(total['last_ended_at'])}",
        ),
    ]


def known(total: Row, field: str) -> str:
    """The column of the sum, or of the part of it that is known."""
    return f"total_{field}" if total[f"total_{field}"] is not None else f"total_known_{field}"


def in_units(seconds: float) -> str:
    """ "42.0 s", "19 min", "2 h 5 min": beside a date, 19:05 would be a time of day."""
    if seconds < 60:
        return format_duration(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


def equivalences_of(total: Row) -> list[Any]:
    return equivalences(total[known(total, "kwh")], total[known(total, "co2_g")])


def distinct(runs: Iterable[Row], field: str) -> list[tuple[list[tuple[str, str]], int]]:
    """The different values of a column that holds keys and values, and of how many runs each is, the most first."""
    counts = Counter(json.dumps(row[field], sort_keys=True) for row in runs)
    return [(in_words(json.loads(text)), number) for text, number in counts.most_common()]


def in_words(values: Row | None) -> list[tuple[str, str]]:
    """Without what was left open."""
    return [
        (key, ", ".join(f"{k} {v}" for k, v in in_words(value)) if isinstance(value, dict) else str(value))
        for key, value in (values or {}).items()
        if value not in (None, [], {}, "")
    ]


# What the charts need


def inline(script: str) -> str:
    """A script as it can stand between two tags."""
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def policy(scripts: Iterable[str]) -> str:
    """For browsers: these very scripts may run, and nothing may be fetched."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(drawn: Iterable[Figure]) -> str:
    """All specifications and, once each, the columns of their data, as JSON that HTML can hold."""
    # What our own functions made needs no check against the grammar of charts, which takes longer than making it.
    specs = {figure.name: figure.chart.to_dict(validate=False) for figure in drawn if figure.chart is not None}
    config = next((spec.get("config") for spec in specs.values()), None)
    pool = Pool()
    for spec in specs.values():
        spec.pop("$schema", None)
        if spec.get("config") == config:
            spec.pop("config", None)
        pool.take(spec, spec.pop("datasets", {}))
    values = {"config": config, "specs": specs, "datasets": pool.datasets, "columns": pool.columns}
    # In ASCII: a browser reads half a character, or a line separator, as it was written.
    return json.dumps(values, separators=(",", ":"), allow_nan=False).translate(ESCAPES)


class Pool:
    """The data of all charts: each set, and each column of any set, kept once however many charts look at it."""

    def __init__(self) -> None:
        self.datasets: dict[str, Any] = {}
        self.columns: list[Any] = []
        self._places: dict[str, int] = {}

    def take(self, spec: Any, named: dict[str, Any]) -> None:
        """Put names where data stands in a specification."""
        if isinstance(spec, list):
            for part in spec:
                self.take(part, named)
        elif isinstance(spec, dict):
            data = spec.get("data")
            if isinstance(data, dict) and ("values" in data or data.get("name") in named):
                values = data.pop("values") if "values" in data else named[data["name"]]
                is_csv = isinstance(values, str) and data["format"]["type"] == "csv"
                data["name"] = self._name(values, data.pop("format") if is_csv else None)
            for part in spec.values():
                self.take(part, named)

    def _name(self, values: Any, form: Mapping[str, Any] | None) -> str:
        """A name that says what is in it: charts that look at the same have the same."""
        text = json.dumps([values, form], default=str)
        name = f"data-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if name not in self.datasets:
            self.datasets[name] = self._pack(values if form is None else rows_of_csv(values, form))
        return name

    def _pack(self, rows: Any) -> Any:
        """Rows with the same keys as places of columns; shapes and the like as they are."""
        if not is_table(rows):
            return {"values": plain(rows)}
        return {"length": len(rows), "columns": {key: self._place([row[key] for row in rows]) for key in rows[0]}}

    def _place(self, values: list[Any]) -> int:
        column = packed(values)
        text = json.dumps(column)
        if text not in self._places:
            self._places[text] = len(self.columns)
            self.columns.append(column)
        return self._places[text]


def rows_of_csv(text: str, form: Mapping[str, Any]) -> list[Row]:
    """Vega would take it apart with code made of its head, which the page's policy forbids. Empty is null."""
    kinds = form["parse"]
    return [
        {name: (cell if kinds[name] == "string" else float(cell)) if cell else None for name, cell in row.items()}
        for row in csv.DictReader(text.splitlines())
    ]


def is_table(rows: Any) -> bool:
    """Rows of bare values, under the same names each."""
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows)
        and not any(isinstance(value, dict | list) for row in rows for value in row.values())
    )


def packed(values: list[Any]) -> Any:
    """Numbers shortened; texts that come again as places in a list of them."""
    short = [shortened(value) for value in values]
    texts = list(dict.fromkeys(value for value in short if isinstance(value, str)))
    if not texts or len(texts) > len(short) / 2 or not all(isinstance(value, str | None) for value in short):
        return short
    places = {text: place for place, text in enumerate(texts)}
    return {"of": texts, "at": [None if value is None else places[value] for value in short]}


def shortened(value: Any) -> Any:
    """A number with as many digits as a chart could ever show; what left the numbers is null."""
    if not isinstance(value, float):
        return plain(value)
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
