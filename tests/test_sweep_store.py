"""Sweeps in the store: written, told again, moved and removed; and what the views answer, against plain Python."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from conftest import (
    STARTED_AT,
    WORLD,
    make_end,
    make_epoch,
    make_phase,
    make_run,
    make_study,
    make_sweep,
    make_trial,
    record,
    records,
)
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from test_answers import Rows

from greenml.records import Source, Study, Trial, from_json, to_json
from greenml.resources import shipped
from greenml.store import Store
from greenml.store.rows import replace
from greenml.store.schema import migrations
from greenml.sweep.front import Point, front, hypervolume
from greenml.units import kwh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Greenml

A, B, C, D, S = ("a" * 12, "b" * 12, "c" * 12, "d" * 12, "5" * 12)
KWH = 3.6e6
MOST_EPOCHS = 3
"""Of a trial of `make_study`."""


@pytest.fixture
def other(tmp_path: Path) -> Store:
    store = Store(tmp_path / "other" / "greenml.duckdb", timeout_s=5)
    store.check()
    return store


def sweep(db: Store, run_id: str = S, *, own_j: float = 100.0, trials: list[Trial], **study: Any) -> None:
    """A sweep that is over, with its trials; their runs are written apart."""
    began = STARTED_AT + timedelta(hours=1)
    phase = make_phase(run_id, 0, name="search", cpu_j=own_j, ram_j=0.0, started_at=began, ended_at=began)
    none: dict[str, Any] = {"best_epoch": None, "test_accuracy": None, "val_accuracy": None}
    end = make_end(run_id, stop_reason="trials", ended_at=began + timedelta(hours=1), **none)
    assert db.write([make_sweep(run_id), make_study(run_id, **study), phase, *trials, end])


def trial_of(number: int, *attempts: str, sweep_id: str = S, **changes: Any) -> Trial:
    return make_trial(sweep_id, number, attempts=[*attempts], **{"state": "complete"} | changes)


def small(db: Store) -> None:
    """Three trials: one tried twice, one that failed, and one that an earlier run stands for."""
    record(db, "0" * 12, [0.5, 0.6], [KWH, KWH])
    record(db, A, [0.5], [KWH], ended=False, kind="trial", parent=S)
    db.write([make_end(A, status="crashed")])
    record(db, B, [0.7, 0.9], [2 * KWH, 2 * KWH], kind="trial", parent=S, model="resnet18")
    record(db, C, [0.1], [3 * KWH], kind="trial", parent=S)
    sweep(
        db,
        own_j=KWH / 2,
        trials=[
            trial_of(0, origin="0" * 12),
            trial_of(1, A, B, attrs={"nsga2:generation": 0, "constraints:min_accuracy": -0.25}),
            trial_of(2, C, state="failed", reason="loss is nan"),
        ],
    )


# Rows


def test_what_is_told_again_is_there_once_as_it_was_told_last(db: Store) -> None:
    db.write([make_sweep(S), make_study(S), make_trial(S, 0), make_trial(S, 1)])
    last = [trial_of(0, A, reason="dominated", attrs={"nsga2:parents": [3, 1]}), trial_of(1, B, C, state="failed")]
    db.write([make_study(S, num_trials=60, limits={"energy_budget": 1e6}), *last])

    assert [row for row in records(db) if isinstance(row, Study | Trial)] == [
        make_study(S, num_trials=60, limits={"energy_budget": 1e6}),
        *last,
    ]


def test_trials_of_a_sweep_that_nobody_knows_are_refused(db: Store) -> None:
    assert not db.write([make_trial(S, 0)])
    assert db.rows("from trial_rows") == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
trials_of_any_kind = st.builds(
    Trial,
    run_id=st.just(S),
    number=st.integers(0, 2**31 - 1),
    state=st.sampled_from(["running", "complete", "failed"]),
    params=st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=3),
    distributions=st.dictionaries(st.text(), json_values, max_size=2),
    attrs=st.dictionaries(st.text(), json_values, max_size=3),
    attempts=st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=12)),
    origin=st.none() | st.just(A),
    reason=st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)


@given(trials_of_any_kind)
def test_a_trial_survives_its_line_of_json(trial: Trial) -> None:
    assert from_json(to_json(trial)) == trial


def test_what_could_not_be_stored_is_stored_by_the_next_writer(db: Store) -> None:
    """In the order in which it was told: the last word counts."""
    db.write([make_sweep(S), make_study(S)])
    with FileLock(db.path.with_name("greenml.duckdb.lock")):
        busy = Store(db.path, timeout_s=0.01)
        assert not busy.write([make_trial(S, 0, attempts=[A]), make_trial(S, 1, attempts=[B])])
        assert not busy.write([trial_of(0, A, reason="dominated")])
        assert busy.spooled() == 3

    db.write([trial_of(1, B, C)])
    rows = db.rows("select number, state, reason, attempts from trials order by number")
    assert [tuple(row.values()) for row in rows] == [
        (0, "complete", "dominated", [A]),
        (1, "complete", None, [B, C]),
    ]
    assert not db.spooled()


@pytest.mark.parametrize("suffix", ["jsonl", "json", "duckdb"])
def test_a_sweep_is_exported_and_imported(
    db: Store, other: Store, greenml: Greenml, tmp_path: Path, suffix: str
) -> None:
    small(db)
    file = tmp_path / f"all.{suffix}"
    assert greenml("runs", "export", "-o", str(file))[0] == 0
    code, _, err = greenml("import", str(file), "--store", str(other.path))
    assert (code, "5 runs" in err) == (0, True), err

    assert set(map(repr, records(other))) == set(map(repr, records(db)))
    for view in ("trials", "sweeps", "sweep_front", "sweep_progress"):
        assert other.rows(f"from {view} order by all") == db.rows(f"from {view} order by all"), view


def test_a_sweep_that_went_on_elsewhere_comes_back_as_it_ended_there(db: Store, other: Store) -> None:
    """Here it was killed with a trial in flight; there that one was tried again, and another drawn."""
    begun = [make_sweep(S), make_study(S), make_phase(S, 0, name="search"), trial_of(0, A)]
    for store in (db, other):
        store.write([*begun, make_trial(S, 1, attempts=[B])])
    other.write([make_study(S, num_trials=3), trial_of(1, B, C), trial_of(2, D), make_phase(S, 1, name="search")])
    other.write([make_end(S, stop_reason="trials")])

    db.merge(other)
    assert records(db) == records(other)
    [row] = db.rows("select status, num_trials, num_complete from sweeps")
    assert row == {"status": "done", "num_trials": 3, "num_complete": 3}
    other.merge(db)
    assert records(other) == records(db)


def test_a_copy_from_before_changes_nothing(db: Store, other: Store) -> None:
    """The other way round: what is here is the later word."""
    other.write([make_sweep(S), make_study(S), make_phase(S, 0), make_trial(S, 0, attempts=[A])])
    small(db)
    before = records(db)
    db.merge(other)
    assert records(db) == before


def test_a_store_from_before_sweeps_gets_their_tables(tmp_path: Path) -> None:
    """Its runs are as they were, and a sweep can take one over."""
    path = tmp_path / "old.duckdb"
    con = duckdb.connect(f"duckdb:{path}")  # noqa: TID251
    for number, file in enumerate(sorted((shipped("sql") / "schema").glob("*.sql"))[:3], start=1):
        con.execute(file.read_text())
        con.execute("insert into schema_migrations values (?, ?, '0.1', now()::timestamp)", [number, file.name])
    con.execute("insert into schema_views values ('old', '0.0.1')")
    con.close()
    old = Store(path)
    assert old.rows("select max(version) as version from schema_migrations") == [{"version": max(migrations())}]
    record(old, A, [0.5], [KWH])
    sweep(old, trials=[trial_of(0, origin=A)])
    assert old.rows("select number, origin, accuracy, energy_kwh from trials") == [
        {"number": 0, "origin": A, "accuracy": 0.5, "energy_kwh": 0.0}
    ]


def test_purging_leaves_no_row(db: Store) -> None:
    small(db)
    db.purge([S])
    assert db.rows("from study_rows union all by name from trial_rows") == []
    assert {row["run_id"] for row in db.rows("select run_id from runs")} == {"0" * 12, A, B, C}


# Random sweeps against brute force. Accuracies are 64ths and joules are whole, so that there are ties.


@dataclasses.dataclass(kw_only=True)
class Tried:
    """A run of a random store: a training that a trial attempted, or took over."""

    run_id: str
    joules: list[float | None]
    """Of each epoch, what was metered."""
    accuracies: list[float | None]
    complete: list[bool]
    ended_at: datetime | None
    site: float
    """Grams a kilowatt-hour, PUE included."""
    num_parameters: int
    lr: float
    model: str
    removed: bool = False
    resumed: bool = False

    @property
    def known_j(self) -> float:
        return sum(joule or 0.0 for joule in self.joules)

    @property
    def total_j(self) -> float | None:
        return None if None in self.joules or not self.joules else self.known_j

    @property
    def points(self) -> list[tuple[int, float, float]]:
        """Epoch, accuracy and joules so far, where all three count."""
        found, spent = [], 0.0
        for epoch, (joule, accuracy, complete) in enumerate(
            zip(self.joules, self.accuracies, self.complete, strict=True), start=1
        ):
            if joule is None:
                return found
            spent += joule
            if complete and accuracy is not None:
                found.append((epoch, accuracy, spent))
        return found

    def rows(self, sweep_id: str) -> list[Any]:
        config = {"model": self.model, "lr": self.lr}
        intensity = dataclasses.replace(WORLD, g_per_kwh=self.site / 2, pue=2.0)
        rows: list[Any] = [
            make_run(
                self.run_id, kind="trial", parent=sweep_id, model=self.model, intensity=intensity, config=config,
                num_parameters=self.num_parameters,
            )
        ]  # fmt: skip
        spent: float | None = 0.0
        for epoch, joule in enumerate(self.joules, start=1):
            source = Source.UNKNOWN if joule is None else Source.MEASURED
            spent = None if spent is None or joule is None else spent + joule
            energy: dict[str, Any] = {"cpu_j": joule, "gpu_j": 0.0, "ram_j": 0.0, "ram_source": Source.ABSENT}
            rows.append(make_phase(self.run_id, epoch - 1, epoch=epoch, cpu_source=source, **energy))
            del energy["ram_source"]
            learned = {"val_accuracy": self.accuracies[epoch - 1], "schedule_complete": self.complete[epoch - 1]}
            said = {"energy_j": joule, "energy_total_j": spent, "source": source}
            rows.append(make_epoch(self.run_id, epoch, **energy, **learned, **said))
        if self.ended_at:
            rows.append(make_end(self.run_id, ended_at=self.ended_at))
        return rows


@dataclasses.dataclass(kw_only=True)
class Draw:
    """A trial of a random store."""

    number: int
    state: str
    tries: list[Tried | None]
    """None: it died before it said a word."""
    origin: Tried | None

    @property
    def last(self) -> Tried | None:
        return self.origin if self.origin else self.tries[-1] if self.tries else None


@dataclasses.dataclass(kw_only=True)
class Sought:
    """A sweep of a random store."""

    run_id: str
    draws: list[Draw]
    own: list[tuple[datetime, float | None]]
    """When a phase of its own ended, and what it took."""
    ended_at: datetime | None
    floor: float | None
    learned_above: float
    ceiling: int | None


def minutes(number: int) -> datetime:
    return STARTED_AT + timedelta(minutes=number)


def random_sweep(dice: random.Random, number: int) -> Sought:
    names = (f"{number:04x}{i:08x}" for i in range(1000))
    lrs = [0.001, 0.01] if dice.random() < 0.3 else [dice.choice([1, 2, 4]) * 10.0**-i for i in range(1, 6)]
    sizes = dice.random() < 0.2
    no_gaps = dice.random() < 0.5

    def tried() -> Tried:
        num_epochs = dice.choice([0, 1, 1, 2, 3, 4]) if not no_gaps else dice.choice([1, 2, 3])
        return Tried(
            run_id=next(names),
            joules=[
                None if dice.random() < 0.05 and not no_gaps else float(dice.choice([1, 1, 2, 4]))
                for _ in range(num_epochs)
            ],
            accuracies=[None if dice.random() < 0.03 else dice.randint(5, 20) / 64 for _ in range(num_epochs)],
            complete=[dice.random() > 0.1 for _ in range(num_epochs)],
            ended_at=None if dice.random() < 0.05 else minutes(dice.randint(0, 12)),
            site=dice.choice([100.0, 100.0, 400.0]),
            num_parameters=dice.choice([10, 20]) if sizes else 10,
            lr=dice.choice(lrs),
            model=dice.choice(["cnn", "resnet18", "vit"]),
            removed=dice.random() < 0.05,
        )

    draws = []
    for i in range(dice.choice([0, 1, 2, 5, 10, 16])):
        if dice.random() < 0.15:
            draws.append(Draw(number=i, state="complete", tries=[], origin=tried()))
            continue
        num_tries = dice.choice([1, 1, 1, 1, 2, 3])
        tries = [None if dice.random() < 0.05 and not no_gaps else tried() for _ in range(num_tries)]
        state = dice.choices(["complete", "failed", "running"], [8, 1, 1])[0]
        draws.append(
            Draw(number=i, state=state, tries=[] if state == "running" and dice.random() < 0.3 else tries, origin=None)
        )
    own = [
        (minutes(dice.randint(0, 12)), None if dice.random() < 0.03 and not no_gaps else float(dice.randint(0, 3)))
        for _ in range(dice.choice([0, 1, 3]) if not no_gaps else 2)
    ]
    return Sought(
        run_id=next(names),
        draws=draws,
        own=own,
        ended_at=None if dice.random() < 0.2 else minutes(dice.randint(10, 14)),
        floor=10 / 64 if dice.random() < 0.2 else None,
        learned_above=8 / 64 if dice.random() < 0.4 else 0.0,
        ceiling=15 if sizes and dice.random() < 0.7 else None,
    )


def rows_of(sought: Sought) -> list[Any]:
    """A sweep as records."""
    space = make_study(sought.run_id).space
    space["constraints"] = {"min_accuracy": sought.floor, "max_parameters": sought.ceiling}
    rows: list[Any] = [make_sweep(sought.run_id), make_study(sought.run_id, space=space, floor=sought.learned_above)]
    for seq, (ended_at, joule) in enumerate(sought.own):
        source = Source.UNKNOWN if joule is None else Source.ESTIMATED
        rows.append(
            make_phase(sought.run_id, seq, name="search", cpu_j=joule, cpu_source=source, ram_j=0.0, ended_at=ended_at)
        )
    if sought.ended_at:
        rows.append(make_end(sought.run_id, ended_at=sought.ended_at))
    for draw in sought.draws:
        ids = [
            attempt.run_id if attempt else f"{sought.run_id}-{draw.number}-{i}" for i, attempt in enumerate(draw.tries)
        ]
        origin = draw.origin.run_id if draw.origin else None
        rows.append(make_trial(sought.run_id, draw.number, state=draw.state, attempts=ids, origin=origin))
        for attempt in [*draw.tries, draw.origin]:
            rows += attempt.rows(sought.run_id) if attempt else []
    return rows


class World(Rows):
    """Eighty sweeps in one store."""

    def __init__(self, sweeps: list[Sought]) -> None:
        super().__init__()
        self.sweeps = sweeps
        for sought in sweeps:
            replace(self.con, rows_of(sought))
        removed = [
            attempt.run_id
            for sought in sweeps
            for draw in sought.draws
            for attempt in [*draw.tries, draw.origin]
            if attempt and attempt.removed
        ]
        self.con.execute("update run_rows set removed_at = ? where run_id in (select unnest(?))", [STARTED_AT, removed])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    dice = random.Random(6)
    opened = World([random_sweep(dice, number) for number in range(80)])
    yield opened
    opened.con.close()


def whole(values: list[float | None]) -> float | None:
    """A sum; over a gap there is none."""
    return None if None in values else sum(value for value in values if value is not None)


def taken(draw: Draw) -> tuple[float | None, float | None, float, float]:
    """What a trial took in all: kWh, grams, the known kWh, and those that nothing came of."""
    if draw.origin:
        return 0.0, 0.0, 0.0, 0.0
    joules = [attempt.total_j if attempt else None for attempt in draw.tries] or [None]
    grams = [
        kwh(attempt.total_j) * attempt.site if attempt and attempt.total_j is not None else None
        for attempt in draw.tries
    ] or [None]
    known = [attempt.known_j if attempt else 0.0 for attempt in draw.tries]
    wasted = known if draw.state == "failed" else known[:-1]
    total = whole(joules)
    return None if total is None else kwh(total), whole(grams), kwh(sum(known)), kwh(sum(wasted))


def close(answered: float | None, expected: float | None) -> bool:
    return (
        answered is None
        if expected is None
        else answered is not None and math.isclose(answered, expected, abs_tol=1e-12)
    )


def by_sweep(world: World, view: str, order: str) -> dict[str, list[dict[str, Any]]]:
    column = "run_id" if view == "sweeps" else "sweep_id"
    found: dict[str, list[dict[str, Any]]] = {sought.run_id: [] for sought in world.sweeps}
    for row in world.rows(f"from {view} order by {order}"):
        found[row[column]].append(row)
    return found


def test_trials_and_sweeps_are_what_their_attempts_took(world: World) -> None:
    trials, sweeps = by_sweep(world, "trials", "number"), by_sweep(world, "sweeps", "run_id")
    num_known = num_gaps = 0
    for sought in world.sweeps:
        answered = trials[sought.run_id]
        assert [row["number"] for row in answered] == [draw.number for draw in sought.draws]
        sums = [taken(draw) for draw in sought.draws]
        for row, draw, (energy, grams, known, wasted) in zip(answered, sought.draws, sums, strict=True):
            assert close(row["energy_kwh"], energy), row
            assert close(row["co2_g"], grams), row
            assert close(row["known_kwh"], known)
            assert close(row["wasted_kwh"], wasted)
            learned = (
                [
                    accuracy
                    for accuracy, complete in zip(draw.last.accuracies, draw.last.complete, strict=True)
                    if complete
                ]
                if draw.last
                else []
            )
            best = max((accuracy for accuracy in learned if accuracy is not None), default=None)
            assert (row["state"], row["num_attempts"]) == (draw.state, len(draw.tries))
            assert (row["epochs"], row["accuracy"]) == (len(learned), best), row
            assert row["source"] == (None if draw.origin else "unknown" if energy is None else "measured")
        [row] = sweeps[sought.run_id]
        own = whole([joule for _, joule in sought.own]) if sought.own else None
        of_trials = whole([energy for energy, *_ in sums])
        assert close(row["overhead_kwh"], None if own is None else kwh(own))
        assert close(row["trials_kwh"], of_trials)
        assert close(row["energy_kwh"], None if own is None or of_trials is None else of_trials + kwh(own))
        of_grams = whole([grams for _, grams, *_ in sums])
        own_site = WORLD.g_per_kwh * WORLD.pue
        assert close(row["co2_g"], None if own is None or of_grams is None else of_grams + kwh(own) * own_site)
        known_own = kwh(sum(joule or 0.0 for _, joule in sought.own))
        assert close(row["known_kwh"], sum(known for _, _, known, _ in sums) + known_own)
        assert close(row["wasted_kwh"], sum(wasted for *_, wasted in sums))
        assert row["num_drawn"] == sum(draw.origin is None for draw in sought.draws)
        assert row["num_known"] == sum(draw.origin is not None for draw in sought.draws)
        assert row["num_failed"] == sum(draw.state == "failed" for draw in sought.draws)
        assert row["source"] == ("unknown" if row["energy_kwh"] is None else "estimated"), (
            "the sweep's own joules are estimated here, and those of its trials measured"
        )
        num_known += row["energy_kwh"] is not None
        num_gaps += row["energy_kwh"] is None
    assert min(num_known, num_gaps) > 12, "there are enough of either to say something"


def learned(sought: Sought) -> list[tuple[int, int, Point, datetime | None]]:
    """Those that may be on the front."""
    return [point for point in points_of(sought) if point[2].accuracy > sought.learned_above]


def points_of(sought: Sought) -> list[tuple[int, int, Point, datetime | None]]:
    """Number, epoch and place of each epoch that keeps the constraints, and when it was known."""
    found = []
    for draw in sought.draws:
        run = draw.last
        if draw.state != "complete" or run is None or run.removed:
            continue
        if sought.ceiling is not None and run.num_parameters > sought.ceiling:
            continue
        known_at = STARTED_AT if draw.origin else run.ended_at
        found += [
            (draw.number, epoch, Point(accuracy, kwh(spent) * WORLD.g_per_kwh * WORLD.pue), known_at)
            for epoch, accuracy, spent in run.points
            if epoch <= MOST_EPOCHS and (sought.floor is None or accuracy >= sought.floor)
        ]
    return found


def test_the_front_is_what_no_point_beats(world: World) -> None:
    answered = by_sweep(world, "sweep_front", "co2_g")
    num_points = 0
    for sought in world.sweeps:
        points = learned(sought)
        rows = answered[sought.run_id]
        places = [Point(row["accuracy"], row["co2_g"]) for row in rows]
        expected = front(point for _, _, point, _ in points)
        assert [*map(tuple, places)] == [pytest.approx(point) for point in expected]
        for row, place in zip(rows, places, strict=True):
            same = [
                (number, epoch) for number, epoch, point, _ in points if tuple(point) == pytest.approx(tuple(place))
            ]
            assert (row["number"], row["epochs"]) == min(same), "of equal ones the first"
        num_points += len(rows)
    assert num_points > 100


def test_a_sweep_knew_so_much_for_so_much(world: World) -> None:
    """Every step against the front and the hypervolume that the search itself reckons with."""
    answered = by_sweep(world, "sweep_progress", "step")
    fronts: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in world.rows("from sweep_fronts order by co2_g"):
        fronts.setdefault((row["sweep_id"], row["step"]), []).append((row["accuracy"], row["co2_g"]))
    num_areas = 0
    for sought in world.sweeps:
        points = learned(sought)
        attempts = [attempt for draw in sought.draws for attempt in draw.tries if attempt and attempt.ended_at]
        moments = {attempt.ended_at for attempt in attempts} | {sought.ended_at} - {None}
        if any(draw.origin and number == draw.number for draw in sought.draws for number, *_ in points):
            moments.add(STARTED_AT)
        rows = answered[sought.run_id]
        assert [row["ended_at"] for row in rows] == sorted(moment for moment in moments if moment)
        for row in rows:
            ends: list[float | None] = [attempt.total_j for attempt in attempts if attempt.ended_at <= row["ended_at"]]
            ends += [joule for ended_at, joule in sought.own if ended_at <= row["ended_at"]]
            tries = [attempt for draw in sought.draws for attempt in draw.tries]
            if sought.ended_at and sought.ended_at <= row["ended_at"]:
                ends += [None for attempt in tries if attempt is None or attempt.ended_at is None]
            known = sum(attempt.known_j for attempt in attempts if attempt.ended_at <= row["ended_at"])
            known += sum(joule or 0 for ended_at, joule in sought.own if ended_at <= row["ended_at"])
            spent = whole(ends)
            assert close(row["known_kwh"], kwh(known)), row
            assert close(row["energy_kwh"], None if spent is None else kwh(spent)), row
            there = [point for _, _, point, known_at in points if known_at and known_at <= row["ended_at"]]
            assert fronts.get((sought.run_id, row["step"]), []) == [pytest.approx(point) for point in front(there)]
            if len({point.co2_g for _, _, point, _ in points}) < 2:
                assert row["hypervolume"] is None
                continue
            least, most = (bound(point.co2_g for _, _, point, _ in points) for bound in (min, max))
            expected = hypervolume(there, least_g=least, most_g=most)
            assert math.isclose(row["hypervolume"], expected, rel_tol=1e-9, abs_tol=1e-12), row
            assert (row["least_g"], row["most_g"]) == pytest.approx((least, most))
            num_areas += expected > 0
    assert num_areas > 100


def test_the_last_step_of_a_sweep_is_its_total(db: Store) -> None:
    small(db)
    [total] = db.rows("select energy_kwh, known_kwh from sweeps")
    [last] = db.rows("select energy_kwh, known_kwh from sweep_progress order by step desc limit 1")
    assert last == total
    assert total["energy_kwh"] == pytest.approx(1 + 4 + 3 + 0.5)


def explained(parts: dict[Any, list[float]]) -> float | None:
    """Adjusted R squared of a grouping."""
    values = [value for part in parts.values() for value in part]
    n, k = len(values), len(parts)
    if n < 10 or n <= k:
        return None
    inner = sum(statistics.pvariance(part) * len(part) for part in parts.values())
    outer = statistics.pvariance(values) * n
    return None if outer < 1e-18 else max(0.0, 1 - inner / (n - k) / (outer / (n - 1)))


def test_importance_is_the_variance_that_goes_with_a_parameter(world: World) -> None:
    answered = by_sweep(world, "sweep_importance", "objective, key")
    num_known = 0
    for sought in world.sweeps:
        of_trial: dict[int, list[tuple[int, Point]]] = {}
        for number, epoch, point, _ in points_of(sought):
            of_trial.setdefault(number, []).append((epoch, point))
        runs = {draw.number: draw.last for draw in sought.draws}
        rows = {(row["objective"], row["key"]): row for row in answered[sought.run_id]}
        assert len(rows) == (4 if of_trial else 0)
        for objective, key in rows:
            reached = {
                number: max(point.accuracy for _, point in points)
                if objective == "accuracy"
                else math.log(max(point.co2_g for _, point in points) / max(epoch for epoch, _ in points))
                for number, points in of_trial.items()
            }
            values = {number: getattr(runs[number], key) for number in of_trial}
            if key == "lr" and len(set(values.values())) > 4:
                ranks = {
                    number: sum(other < value for other in values.values()) / (len(values) - 1)
                    for number, value in values.items()
                }
                values = {number: math.floor(4 * rank) for number, rank in ranks.items()}
            parts: dict[Any, list[float]] = {}
            for number, value in values.items():
                parts.setdefault(value, []).append(reached[number])
            row = rows[objective, key]
            expected = explained(parts)
            assert (row["num_trials"], row["num_groups"]) == (len(of_trial), len(parts))
            assert (row["importance"] is None) == (expected is None), row
            if expected is not None:
                assert math.isclose(row["importance"], expected, abs_tol=1e-9), row
                num_known += 1
    assert num_known > 15


def test_a_condition_decides_what_counts(db: Store) -> None:
    """Optuna draws a learning rate for each optimizer; what the run was trained with is what is held against it."""
    trials = []
    for number in range(12):
        good = number % 2
        run_id = f"{number:012x}"
        record(db, run_id, [0.5 + 0.25 * good], [KWH], config={"model": "cnn", "lr": 0.1 if good else 0.001}, parent=S)
        trials.append(trial_of(number, run_id, params={"lr (optimizer=sgd)": 0.5, "lr (optimizer=adamw)": number}))
    sweep(db, trials=trials)
    rows = db.rows("select key, importance from sweep_importance where objective = 'accuracy' order by key")
    assert [tuple(row.values()) for row in rows] == [("lr", 1.0), ("model", 0.0)]
    assert {row["importance"] for row in db.rows("from sweep_importance where objective = 'co2_g'")} == {None}
