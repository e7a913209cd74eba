"""The page of `report --html`: read as a browser reads it, and held against what the views answer."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import bench_store
import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_run, record

from greenml import plots
from greenml.console import clean, counted, plain
from greenml.recommend import Asked, advise
from greenml.records import Source
from greenml.report import markdown, method, rows, tables
from greenml.report.content import Content, gather
from greenml.report.equivalences import equivalences
from greenml.report.figures import figures
from greenml.report.page import DIGITS, headline, in_units, page, shortened
from greenml.store import Store
from greenml.units import kwh

if TYPE_CHECKING:
    from collections.abc import Collection

    from greenml.report.tables import Table

A, B, C, D, E, F = (letter * 12 for letter in "abcdef")
HOSTILE = "</script><img src=x onerror=alert(1)>'\"&<!--\u2028\u202e🌱{{ 7 * 7 }}"
VOID = {"meta", "br", "img", "input", "link", "hr"}
# What the charts' libraries name and never fetch: namespaces, formats, a hint for programmers, a menu that is off.
NAMED = {
    "http://www.w3.org/1999/xlink",
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/2000/xmlns/",
    "https://github.com/vega/vega-lite/issues/2415",
    "https://vega.github.io/editor/",
    "https://vega.github.io/schema/vega/v6.json",
}


SIZES = {
    "kWh": 1, "Wh": 1e-3, "mWh": 1e-6, "kg": 1e3, "g": 1, "mg": 1e-3,
    "h": 3600, "min": 60, "s": 1, "ms": 1e-3, "%": 0.01,
}  # fmt: skip
"""What one of a unit is in the unit of the views."""
KNOWN_PART = {"energy_kwh": "known_kwh", "tried_kwh": "known_tried_kwh"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """A table of the page: its heads and rows by column of the view, the rows as numbers and as people read them."""

    view: str
    heads: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    texts: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Page(HTMLParser):
    """A page taken apart: its tags, its tables as rows of the views, its scripts, its words."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.drawn: list[Drawn] = []
        self.scripts: list[str] = []
        self.words = ""
        self.headline: dict[str, Any] = {}
        self.headline_texts: dict[str, str] = {}
        self._open: list[str] = []
        self._columns: list[tuple[str, bool]] = []
        self._cells: list[Any] = []
        self._texts: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every tag is closed"
        data = next(text for text, kind in zip(self.scripts, self._kinds, strict=True) if kind == "application/json")
        self.charts = json.loads(data)

    @property
    def tables(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """View and rows of each table, the rows as the numbers that stand beside what people read."""
        return [(table.view, table.rows) for table in self.drawn]

    @property
    def _kinds(self) -> list[str | None]:
        return [attributes.get("type") for name, attributes in self.tags if name == "script"]

    def handle_starttag(self, name: str, pairs: list[tuple[str, str | None]]) -> None:
        attributes = dict(pairs)
        self.tags.append((name, attributes))
        if name not in VOID:
            self._open.append(name)
        if name == "table":
            self.drawn.append(Drawn(view=str(attributes["data-view"])))
            self._columns = []
        elif name == "th":
            self._columns.append((str(attributes["data-column"]), "data-number" in attributes))
            self._texts.append("")
        elif name == "tr":
            self._cells, self._texts = [], []
        elif name == "td":
            self._cells.append(attributes.get("data-value"))
            self._texts.append("")
        elif name == "strong" and "data-column" in attributes:
            self.headline[str(attributes["data-column"])] = json.loads(attributes.get("data-value") or "null")
            self.headline_texts[str(attributes["data-column"])] = ""
        elif name == "script":
            self.scripts.append("")

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name
        if name != "tr":
            return
        texts = dict(zip([column for column, _ in self._columns], self._texts, strict=True))
        if not self._cells:
            self.drawn[-1].heads.update(texts)
            return
        self.drawn[-1].texts.append(texts)
        self.drawn[-1].rows.append(
            {
                column: json.loads(value) if is_number and value is not None else value
                for (column, is_number), value in zip(self._columns, self._cells, strict=True)
            }
        )

    def handle_data(self, text: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += text
        elif not (self._open and self._open[-1] == "style"):
            self.words += text
            if {"td", "th"} & {*self._open}:
                self._texts[-1] += text
            elif self._open and self._open[-1] == "strong" and self.headline_texts:
                self.headline_texts[next(reversed(self.headline_texts))] += text

    def dataset(self, name: str) -> list[dict[str, Any]]:
        """As page.js unpacks it."""
        packed = self.charts["datasets"][name]
        if "values" in packed:
            values = packed["values"]
            return list(json.loads(values) if isinstance(values, str) else values)
        columns = {field: self.column(place) for field, place in packed["columns"].items()}
        return [{field: column[i] for field, column in columns.items()} for i in range(packed["length"])]

    def column(self, place: int) -> list[Any]:
        column = self.charts["columns"][place]
        return column if isinstance(column, list) else [None if i is None else column["of"][i] for i in column["at"]]


def fill(db: Store) -> None:
    """Two recipes under two seeds each, one that learned nothing, one with a gap, and one that was only watched."""
    config = {"model": "cnn", "epochs": 3, "lr": 0.001}
    for run_id, precision, seed, joules, accuracy in (
        (A, "fp32", 0, 4000.0, 0.91),
        (B, "fp32", 1, 4100.0, 0.92),
        (C, "bf16", 0, 1900.0, 0.9),
        (D, "bf16", 1, 2100.0, 0.915),
    ):
        record(
            db, run_id, [0.5, 0.8, accuracy], [joules, joules / 3, joules / 7],
            precision=precision, seed=seed, group_hash=f"g-{precision}", config={**config, "precision": precision},
        )  # fmt: skip
    record(db, E, [0.1, 0.1], [10.0, 10.0], model="resnet18", group_hash="g-e", config={**config, "model": "resnet18"})
    record(db, F, [0.5, 0.6], [50.0, None], name="gap", group_hash="g-f", config={**config, "lr": 0.1})
    watched: dict[str, Any] = {"kind": "track", "model": "train.py", "dataset": "own", "data_hash": None}
    unsaid = dict.fromkeys(("num_classes", "num_train", "num_val", "num_test", "image_size", "num_parameters"))
    db.write([make_run("9" * 12, **watched, **unsaid), make_end("9" * 12, test_accuracy=None, val_accuracy=None)])


def drawn(db: Store, **how: Any) -> tuple[Page, Content]:
    ids = [row["run_id"] for row in db.rows("select run_id from leaderboard")]
    content = gather(db, ids, **how)
    return Page(page(content, advise(db, Asked()), written_at=STARTED_AT)), content


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("page") / "store" / "greenml.duckdb", timeout_s=5)
    store.check()
    fill(store)
    return store


@pytest.fixture(scope="module")
def read(filled: Store) -> tuple[Page, Content]:
    return drawn(filled)


# Nothing comes from outside, and nothing gets there


def test_the_page_asks_for_nothing(read: tuple[Page, Any]) -> None:
    fetches_nothing(read[0])


def test_a_page_of_a_hundred_runs_can_be_mailed(db: Store) -> None:
    """Of a hundred epochs each: under 2.5 MB, and nothing of it is elsewhere."""
    bench_store.fill(db.path, num_runs=100, num_epochs=100)
    parsed, content = drawn(db)
    assert (len(content.runs), len(content.epochs)) == (100, 10_000)
    assert sum(len(rows) for view, rows in parsed.tables if view == "leaderboard") == 100
    assert len(parsed.text.encode()) < 2_500_000
    fetches_nothing(parsed)


def fetches_nothing(parsed: Page) -> None:
    """No tag that loads, no address but those that are only named, no call of ours for either."""
    for name, attributes in parsed.tags:
        assert name not in {"link", "iframe", "object", "embed", "base", "form", "img", "video", "audio", "source"}
        assert not any(key.startswith("on") or key in ("src", "srcset", "action", "style") for key in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    own = parsed.scripts[-1]
    assert not re.search(r"\bfetch\b|XMLHttpRequest|WebSocket|sendBeacon|import\s*\(|eval\(|https?:", own)
    assert set(re.findall(r"https?://[\w./-]+", parsed.text)) <= NAMED
    style = parsed.text[parsed.text.index("<style>") : parsed.text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_browsers_are_told_to_fetch_nothing_and_to_run_these_scripts_alone(read: tuple[Page, Any]) -> None:
    parsed, _ = read
    [policy] = [attributes["content"] or "" for name, attributes in parsed.tags if "http-equiv" in attributes]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    kinds = [attributes.get("type") for name, attributes in parsed.tags if name == "script"]
    run = [script for script, kind in zip(parsed.scripts, kinds, strict=True) if kind is None]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_names_are_words_and_nothing_else(db: Store) -> None:
    changes: dict[str, Any] = {"name": HOSTILE, "model": HOSTILE, "dataset": HOSTILE, "tags": [HOSTILE]}
    changes |= {"command": HOSTILE, "precision": HOSTILE, "hardware": {HOSTILE: HOSTILE}, "versions": {"x": HOSTILE}}
    record(db, A, [0.5, 0.9], [100.0, 100.0], **changes, intensity=WORLD)
    record(db, B, [0.5, 0.9], [100.0, 100.0], seed=1, **changes)
    parsed, content = drawn(db)
    assert [name for name, _ in parsed.tags if name == "img"] == []
    assert len(parsed.scripts) == 3
    assert content.runs[0]["model"] == HOSTILE
    [(_, rows), *_] = parsed.tables
    assert rows[0]["model"] == clean(HOSTILE)
    assert "🌱{{ 7 * 7 }}" in parsed.words


# Every number is the view's


@pytest.mark.parametrize("view", ["leaderboard", "leaderboard_groups", "swaps", "savings"])
def test_a_table_holds_what_its_view_answers(filled: Store, read: tuple[Page, Any], view: str) -> None:
    parsed, content = read
    kept = getattr(content, {"leaderboard": "runs", "leaderboard_groups": "groups"}.get(view, view))
    shown = [row for table in parsed.drawn if table.view == view for row in read_rows(table)]
    answered = filled.rows(f"from {view}")
    assert len(shown) == len(answered) == len(kept) > 0
    for row, selected in zip(shown, kept, strict=True):
        common = selected.keys() & answered[0].keys()
        [answer] = [other for other in answered if all(other[key] == selected[key] for key in common)]
        same(row, answer, hidden={"acc_per_kwh"} if not answer.get("rank", True) else set())


@pytest.mark.parametrize("field", ["break_even", "factors", "meters"])
def test_so_does_what_the_page_sums_up(read: tuple[Page, Any], field: str) -> None:
    parsed, content = read
    [shown] = [read_rows(table) for table in parsed.drawn if table.view == field]
    answered = getattr(content, field)
    assert answered
    for row, answer in zip(shown, answered, strict=True):
        same(row, answer)


def read_rows(table: Drawn) -> list[dict[str, tuple[Any, str, str]]]:
    """Rows by column: the number or text beside the cell, the cell as people read it, and the head over it."""
    return [
        {column: (value, texts[column], table.heads[column]) for column, value in row.items()}
        for row, texts in zip(table.rows, table.texts, strict=True)
    ]


def same(shown: dict[str, tuple[Any, str, str]], answered: dict[str, Any], hidden: Collection[str] = ()) -> None:
    """To the last bit; and what people read is that, rounded."""
    size = 1.0
    for column, (value, text, head) in shown.items():
        expected = None if column in hidden else plain(answered[column])
        if isinstance(expected, list | bool) and isinstance(value, str):
            value = json.loads(value)
        assert value == expected, column
        if isinstance(value, bool):
            assert text in (("●", "yes") if value else ("", "no")), column
        elif isinstance(value, list):
            assert text == ", ".join(run_id[:8] for run_id in value), column
        elif isinstance(value, str):
            assert text.startswith(clean(value)[:8]), column
        elif value is None and text.startswith("≥"):
            known, rounding, size = number(text, head, size)
            assert known == pytest.approx(answered[KNOWN_PART[column]], abs=rounding), column
        elif value is None:
            assert text in ("–", "unknown", "none given", ""), column
        else:
            told, rounding, size = number(text, head, size)
            assert told == pytest.approx(value, abs=rounding), column


def number(text: str, head: str, before: float) -> tuple[float, float, float]:
    """What people read, and half of its last digit, both in the unit of the view; and what one of its own unit is.

    The unit stands beside the number, or in the head; ± has that of the column `before`, a signed number is in points.
    """
    sign, digits, unit = re.match(r"[~÷≥]?([+-]?)([\d,.:]+) ?([^\s\d]*)", text).groups()  # type: ignore[union-attr]
    if ":" in digits:
        parts = [int(part) for part in digits.split(":")]
        return sum(part * 60**i for i, part in enumerate(reversed(parts))), 0.5, 1.0
    if found := re.fullmatch(r"(\d+) h (\d+) min", text):
        return 3600 * int(found[1]) + 60 * int(found[2]), 30.0, 1.0
    in_head = re.search(r"\((\w+)\)$| (%)$", head)
    if unit in SIZES:
        size = SIZES[unit]
    elif in_head:
        size = SIZES[in_head[1] or in_head[2]]
    else:
        size = before if head == "±" else 0.01 if sign else 1.0
    decimals = len(digits.partition(".")[2])
    rounding = (0.5 + 1e-9) * 10**-decimals
    return float(f"{sign}{digits.replace(',', '')}") * size, rounding * size, size


def test_the_headline_is_the_sum(filled: Store, read: tuple[Page, Any]) -> None:
    parsed, _ = read
    [row] = filled.rows("select sum(known_kwh) as known_kwh, count(*) as num_runs from leaderboard")
    assert parsed.headline["total_known_kwh"] == row["known_kwh"]
    assert parsed.headline["num_runs"] == row["num_runs"]
    assert "total_kwh" not in parsed.headline, "one run has a gap, so that nobody knows the total"
    for column, value in parsed.headline.items():
        told, rounding, _ = number(parsed.headline_texts[column], "", 1.0)
        assert told == pytest.approx(value, abs=rounding), column
    assert "≥ the known part" in parsed.words
    assert "~ estimated by a power model, not measured" in parsed.words


def test_charts_hold_what_the_views_answer(filled: Store, read: tuple[Page, Any]) -> None:
    """As far as the digits go that are kept, in the one unit of the page."""
    parsed, content = read
    sheet = plots.Sheet(runs=content.runs, epochs=content.epochs, marginal=content.marginal)
    for unit in (sheet.energy, sheet.mass, sheet.per_point):
        assert unit.factor * SIZES[unit.name] == pytest.approx(1)
    runs = {row["run_id"]: of_run(row, sheet) for row in filled.rows("from leaderboard")}
    prices = {(row["run_id"], row["epoch"]): row["wh_per_point"] for row in filled.rows("from marginal")}
    epochs = {
        (row["run_id"], row["epoch"]): of_epoch(row, prices.get((row["run_id"], row["epoch"])), sheet)
        for row in filled.rows("from epochs")
    }
    num_compared = Counter[str]()
    for name in parsed.charts["datasets"]:
        for row in parsed.dataset(name):
            if not isinstance(row, dict) or "run_id" not in row or {"phase", "component"} & row.keys():
                continue
            answered = epochs[row["run_id"], row["epoch"]] if "epoch" in row else runs[row["run_id"]]
            for field in row.keys() & answered.keys():
                shown, answer = row[field], answered[field]
                assert (shown is None) == (answer is None), (name, field, row)
                if answer is not None:
                    assert math.isclose(shown, answer, rel_tol=10 ** (1 - DIGITS)), (name, field, row)
                num_compared[field] += 1
    for field in {*next(iter(runs.values())), *next(iter(epochs.values()))}:
        assert num_compared[field] >= len(runs) - 1, field


def of_run(row: dict[str, Any], sheet: plots.Sheet) -> dict[str, float | None]:
    """A row of `leaderboard` as charts show it."""
    return {
        "accuracy": row["accuracy"],
        "epochs": row["epochs"],
        "ratio": row["acc_per_kwh"] if row["rank"] else None,
        "energy": times(row["energy_kwh"], sheet.energy.factor),
        "kwh": row["energy_kwh"],
        "grams": times(row["co2_g"], sheet.mass.factor),
        "g_per_kwh": row["intensity_g_per_kwh"],
        "pue": row["pue"],
    }


def of_epoch(row: dict[str, Any], wh_per_point: float | None, sheet: plots.Sheet) -> dict[str, float | None]:
    """A row of `epochs` as charts show it."""
    return {
        "value": row["val_accuracy"],
        "loss": row["val_loss"],
        "energy": times(row["energy_total_j"], kwh(1) * sheet.energy.factor),
        "per_point": times(wh_per_point, sheet.per_point.factor / 1000),
    }


def times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def test_data_that_charts_share_is_there_once(read: tuple[Page, Any]) -> None:
    parsed, _ = read
    used = re.findall(r'"name": "(data-[0-9a-f]{16})"', json.dumps(parsed.charts["specs"]))
    assert set(used) == set(parsed.charts["datasets"])
    columns = [json.dumps(column) for column in parsed.charts["columns"]]
    assert len(columns) == len(set(columns))


@pytest.mark.parametrize(
    ("value", "short"),
    [(0.123456789, 0.1234568), (3.0, 3), (1e300, 1e300), (math.nan, None), (math.inf, None), ("x", "x"), (None, None)],
)
def test_charts_hold_so_many_digits(value: Any, short: Any) -> None:
    assert shortened(value) == short


# What there may be too little of, or too much


def test_one_run(db: Store) -> None:
    record(db, A, [0.9], [100.0])
    parsed, _ = drawn(db)
    [rows] = [rows for view, rows in parsed.tables if view == "leaderboard"]
    assert [row["run_id"] for row in rows] == [A]
    assert [view for view, _ in parsed.tables if view in ("swaps", "savings")] == []


def test_runs_without_accuracy(db: Store) -> None:
    """Tracked programs: their energy is known, and nothing is made up about the rest."""
    record(db, A, [], [], ended=False, kind="track", dataset="unknown", data_hash=None, num_classes=None)
    db.write([make_end(A, test_accuracy=None, val_accuracy=None, best_epoch=None)])
    parsed, _ = drawn(db)
    [rows] = [rows for view, rows in parsed.tables if view == "leaderboard"]
    assert rows[0]["accuracy"] is None
    assert "no test accuracy" in parsed.words


def test_unknown_energy_is_unknown_and_not_nothing(db: Store) -> None:
    record(db, A, [0.8, 0.9], [None, None])
    parsed, _ = drawn(db)
    assert parsed.headline["total_known_kwh"] is None
    assert parsed.headline_texts["total_known_kwh"] == "unknown"
    assert "unknown" in parsed.words
    assert not re.search(r"\b0(\.0+)? [mk]?Wh", parsed.words)
    assert "as much as" not in parsed.words


def test_what_is_left_out_is_said(db: Store) -> None:
    record(db, A, [0.9], [100.0])
    parsed, _ = drawn(db, num_left_out=9900)
    assert "Of 9,901 runs, the best 1 are on this page" in parsed.words


def test_headings_do_not_skip(read: tuple[Page, Any]) -> None:
    parsed, _ = read
    levels = [int(name[1]) for name, _ in parsed.tags if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    identities = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(identities) == len(set(identities))


# What it is like


@pytest.mark.parametrize(
    ("energy_kwh", "co2_g", "amounts"),
    [
        (None, None, []),
        (1e-9, 1e-6, []),
        (0.1, None, [0.1 / kwh(335e3)]),
        (0.02, 14.0, [2.0, 14 / 12.4]),
        (1.0, 488.0, [1 / kwh(335e3), 2.0]),
    ],
)
def test_at_most_two_things_that_people_know(
    energy_kwh: float | None, co2_g: float | None, amounts: list[float]
) -> None:
    found = equivalences(energy_kwh, co2_g)
    assert [one.amount for one in found] == pytest.approx(amounts, rel=1e-5)
    assert all(re.search(r", 20\d\d: \d", one.source) for one in found)


# What tables say beside their numbers


def measured(db: Store, run_id: str, accuracies: list[float], joules: float, **run: Any) -> None:
    """A whole run whose counters were read."""
    known: dict[str, Any] = {"cpu_j": joules, "gpu_j": 0.0, "ram_j": 0.0}
    counted = dict.fromkeys(("cpu_source", "ram_source"), Source.MEASURED)
    rows: list[Any] = [make_run(run_id, **run)]
    for number, accuracy in enumerate(accuracies, 1):
        taken = {**known, "energy_j": joules, "energy_total_j": number * joules, "source": Source.MEASURED}
        rows += [
            make_phase(run_id, number - 1, epoch=number, **known, **counted),
            make_epoch(run_id, number, val_accuracy=accuracy, **taken),
        ]
    best = accuracies[-1]
    db.write([*rows, make_end(run_id, best_epoch=len(accuracies), val_accuracy=best, test_accuracy=best)])


def texts(table: Table | None) -> list[dict[str, str]]:
    """What people read: a head may come twice, and then the first counts."""
    assert table is not None
    heads = [column.head.partition(" (")[0] for column in table.columns]
    return [dict(reversed([*zip(heads, (cell.text for cell in line.cells), strict=True)])) for line in table.lines]


def test_finding_out_took_what_all_runs_took(db: Store) -> None:
    """Not only those on the page; but nothing of what was not metered here."""
    fill(db)
    ranked = [A, B, C, D]
    first = gather(db, ranked).break_even[0]
    record(db, "7" * 12, [0.8], [1e6], ended=False)
    [after] = [row for row in gather(db, ranked).break_even if row["run_ids"] == first["run_ids"]]
    assert after["num_tried"] == first["num_tried"] + 1
    assert after["known_tried_kwh"] == pytest.approx(first["known_tried_kwh"] + kwh(1e6))
    assert after["num_trainings"] > first["num_trainings"]
    assert gather(db, [C]).break_even[0]["known_tried_kwh"] == after["known_tried_kwh"]
    record(db, "8" * 12, [0.8], [1e9], kind="estimate")
    record(db, "6" * 12, [0.8], [1e9], meter={"replayed": True})
    assert {row["unranked"] for row in db.rows("from leaderboard")} >= {"never metered", "replayed power"}
    assert gather(db, ranked).break_even[0]["known_tried_kwh"] == after["known_tried_kwh"]


def test_every_sum_over_runs_is_the_same(db: Store) -> None:
    fill(db)
    record(db, "8" * 12, [0.8], [1e9], kind="estimate")
    record(db, "6" * 12, [0.8], [1e9], meter={"replayed": True})
    [contest] = {row["contest"] for row in db.rows("from leaderboard where dataset = 'digits'")}
    ids = [row["run_id"] for row in db.rows("from leaderboard where contest = ?", [contest])]
    [by_contest] = rows.contests(db, ids)
    sums = [by_contest, rows.totals(db, ids), rows.all_of_contest(db, contest)]
    for field in ("total_known_kwh", "total_kwh", "total_known_co2_g", "total_s", "num_unknown", "worst_source"):
        assert [row[field] for row in sums] == pytest.approx([sums[0][field]] * 3), field
    assert sums[0]["total_known_kwh"] < kwh(1e6)
    assert gather(db, ids).break_even[0]["known_tried_kwh"] == pytest.approx(sums[0]["total_known_kwh"])
    assert (by_contest["num_runs"], by_contest["num_metered"]) == (8, 6)
    assert "2 runs took none here" in drawn(db)[0].words


def test_a_sum_of_times_says_where_one_is_unknown(db: Store) -> None:
    record(db, A, [0.8], [3600.0])
    assert page_time(rows.totals(db, [A])) == "10.0 s"
    db.write([make_run(B), make_end(B)])
    totals = rows.totals(db, [A, B])
    assert (totals["total_s"], totals["total_known_s"]) == (None, 10.0)
    assert page_time(totals) == "≥10.0 s"
    assert page_time(rows.totals(db, [B])) == "unknown"
    assert "and ≥10.0 s of machine time" in markdown.together(totals)


def page_time(total: dict[str, Any]) -> str:
    return next(fact.text for fact in headline(total) if fact.label == "machine time")


@pytest.mark.parametrize(("seconds", "text"), [(42.0, "42.0 s"), (1145.0, "19 min"), (7530.0, "2 h 6 min")])
def test_a_time_does_not_look_like_one_of_the_day(seconds: float, text: str) -> None:
    assert in_units(seconds) == text


def test_each_number_has_the_mark_of_its_own_source(db: Store) -> None:
    """The two of a swap were measured; one more that was tried was not."""
    measured(db, A, [0.5, 0.9], 1000.0, model="resnet18", group_hash="a")
    measured(db, B, [0.5, 0.9], 100.0, group_hash="b")
    measured_only = gather(db, [A, B])
    [row] = texts(tables.break_even(measured_only))
    assert not re.search("[~≥]", row["finding it took"] + row["trainings until even"] + row["saves a training"])
    assert "(measured)" in figure_of(measured_only)
    record(db, C, [0.1], [100.0], seed=3, group_hash="c")
    content = gather(db, [A, B])
    [row] = texts(tables.break_even(content))
    assert row["finding it took"].startswith("~")
    assert row["trainings until even"] == "~2"
    assert not row["saves a training"].startswith("~")
    assert "(estimated). Each later training" in figure_of(content)
    assert "(measured)" in figure_of(content)
    record(db, D, [0.8], [100.0], seed=4, group_hash="d", ended=False)
    content = gather(db, [A, B])
    [row] = texts(tables.break_even(content))
    assert row["finding it took"].startswith("≥")
    assert row["trainings until even"].startswith("≥")
    assert "took at least" in figure_of(content)


def figure_of(content: Content) -> str:
    """The caption of the break-even."""
    return next(figure.caption for figure in figures(content) if figure.name == "break-even")


def test_what_is_made_of_estimates_is_marked(filled: Store, read: tuple[Page, Any]) -> None:
    _, content = read
    for table in (tables.swaps(content), tables.savings(content)):
        assert table is not None
        for row in texts(table):
            assert row["energy"].startswith("~")
            assert row["CO2e"].startswith("~")
            assert not row.get("fewer epochs", "").startswith("~")
        assert "~ estimated by a power model, not measured" in table.notes
    boards = [row for table in tables.leaderboards(content) for row in texts(table)]
    assert {row["acc/kWh"][0] for row in boards} == {"~", "–"}
    assert {row["acc/kWh"][0] for row in texts(tables.groups(content))} == {"~", "–"}


def test_a_ratio_of_co2_over_two_grids_is_not_shown(db: Store) -> None:
    """France is no choice of a model."""
    clean_grid = dataclasses.replace(WORLD, g_per_kwh=50.0, region_asked="FR", region_used="France", level="country")
    config = {"model": "cnn", "epochs": 2}
    record(db, A, [0.5, 0.9], [1000.0] * 2, group_hash="a", config=config | {"precision": "fp32"})
    record(
        db, B, [0.5, 0.9], [100.0] * 2, group_hash="b", config=config | {"precision": "bf16"}, precision="bf16",
        intensity=clean_grid,
    )  # fmt: skip
    content = gather(db, [A, B])
    for table, view in ((tables.swaps(content), content.swaps), (tables.savings(content), content.savings)):
        assert table is not None
        [answer], [row] = view, texts(table)
        assert answer["co2_ratio"] == pytest.approx(answer["energy_ratio"] * 50 / 475)
        assert row["energy"] == "~10 %"
        assert row["CO2e"] == "–"
        assert [cell.value for cell in table.lines[0].cells if cell.value == answer["co2_ratio"]] == []
        assert any("grids differ" in note for note in table.notes)


def test_a_group_without_a_rank_shows_what_it_took(db: Store) -> None:
    """Its energy was metered: it is not unknown."""
    record(db, A, [0.1], [360.0], group_hash="a")
    record(db, B, [0.9], [3600.0], group_hash="b", seed=1)
    unranked, ranked = sorted(texts(tables.groups(gather(db, [A, B]))), key=lambda row: row["n"])
    assert (unranked["n"], unranked["energy"], unranked["CO2e"], unranked["energy, unranked"]) == (
        *("0", "–", "–", "~100"),
    )
    assert (ranked["n"], ranked["energy"], ranked["energy, unranked"]) == ("1", "~1.00", "–")
    assert "energy, unranked" not in texts(tables.groups(gather(db, [B])))[0]


def test_rows_say_their_data_where_there_are_several(db: Store) -> None:
    fill(db)
    one, several = gather(db, [A, B, C, D]), gather(db, [A, B, C, D, "9" * 12])
    for draw in (tables.swaps, tables.savings, tables.break_even):
        assert "data set" not in texts(draw(one))[0]
        assert {row["data set"] for row in texts(draw(several))} == {"digits"}


def test_page_and_markdown_say_the_same_of_method_and_limits(read: tuple[Page, Any], filled: Store) -> None:
    parsed, content = read
    words = markdown.document(content, [], rows.contests(filled, [A, B]), written_at=STARTED_AT)
    for text in [*(text for _, text in method.METHOD), *method.LIMITS]:
        assert text in parsed.words
        assert f": {text}\n" in words or f"- {text}\n" in words


def test_the_knee_is_told_as_the_view_finds_it(read: tuple[Page, Any]) -> None:
    assert "highest above the straight line from its first epoch to its last" in read[0].words


def test_table_chart_and_caption_agree_on_when_it_is_even(read: tuple[Page, Any]) -> None:
    """The first whole number of trainings that pays."""
    parsed, content = read
    assert any(row["num_trainings"] % 1 for row in content.break_even)
    for row in content.break_even:
        assert row["num_trainings"] <= row["whole_trainings"] < row["num_trainings"] + 1
        assert plots.count(row["num_trainings"]) == counted(row["whole_trainings"], "training")
    first = content.break_even[0]["whole_trainings"]
    assert f"paid back after {counted(first, 'training')}" in json.dumps(parsed.charts)
    assert figure_of(content).endswith(f"after {counted(first, 'training')}.")
    assert texts(tables.break_even(content))[0]["trainings until even"].lstrip("~≥") == str(first)
