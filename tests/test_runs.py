"""`greenml runs`: marked, removed, exported, merged, and nothing lost or doubled on the way."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from conftest import (
    STARTED_AT,
    make_end,
    make_epoch,
    make_phase,
    make_resume,
    make_run,
    record,
    records,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_store import of_schema_1

from greenml import store as stores
from greenml.errors import StoreError
from greenml.records import Artifact, utc_now
from greenml.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

A, B, C = "a" * 12, "b" * 12, "c" * 12
LATER = STARTED_AT + timedelta(hours=2)


@pytest.fixture
def other(tmp_path: Path) -> Store:
    store = Store(tmp_path / "other" / "greenml.duckdb", timeout_s=5)
    store.check()
    return store


def leave_files(db: Store, run_id: str, **texts: str) -> None:
    """Files of a run, and the rows that name them."""
    with db.claim(run_id) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text)
            db.write([Artifact(run_id=run_id, name=name, path=f"runs/{run_id}/{name}", num_bytes=len(text))])


def files_of(db: Store, run_id: str) -> dict[str, str]:
    folder = db.path.parent / "runs" / run_id
    return {path.name: path.read_text() for path in sorted(folder.glob("*")) if path.name != "lock"}


def shown(db: Store) -> list[str]:
    return [row["run_id"] for row in db.rows("select run_id from leaderboard order by run_id")]


def answer(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Somebody sits at the terminal and types `text`, or nobody does."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: text is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda: text)


# Removing


def test_a_removed_run_leaves_every_ranking_and_comes_back(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    record(db, B, [0.9], [2e5])
    leave_files(db, A, model="weights")
    before = records(db)
    assert greenml("runs", "rm", "aa", "--yes")[::2] == (
        0,
        "aaaaaaaaaaaa  cnn on digits, 1 epoch, 90.0 %\n"
        "1 run removed; `greenml runs restore` brings back what is not purged\n",
    )
    assert shown(db) == [B]
    assert files_of(db, A) == {"model": "weights"}
    assert [row["run_id"] for row in json.loads(greenml("runs", "list", "--removed", "--json")[1])] == [A]
    assert "aaaaaaaa" in greenml("runs", "list", "--removed")[1]
    assert greenml("runs", "show", "aa")[0] == 2
    assert greenml("runs", "rm", "aa", "-y")[0] == 2
    assert greenml("runs", "restore", "aa")[0] == 0
    assert shown(db) == [A, B]
    assert records(db) == before
    code, _, err = greenml("runs", "restore", "bb")
    assert (code, err.splitlines()[0]) == (2, "greenml: error: no run starts with `bb`")


def test_a_purged_run_is_gone_with_all_rows_and_files(db: Store, greenml: Greenml) -> None:
    for run_id in (A, B):
        record(db, run_id, [0.9], [1e5])
        leave_files(db, run_id, model="weights")
        db.write([make_resume(run_id), make_end(run_id)])
    (db.path.parent / "runs" / A / "more").mkdir()
    (db.path.parent / "runs" / A / "more" / "file").write_text("x" * 1000)
    [left] = db.rows("from totals where run_key = 2")
    greenml("runs", "rm", A, "--yes")
    code, _, err = greenml("runs", "rm", A, "--purge", "--yes")
    assert (code, err.splitlines()[-1]) == (0, "1 run purged")
    assert {row.run_id for row in records(db)} == {B}
    assert db.rows("from totals") == [left]
    assert [path.name for path in (db.path.parent / "runs").iterdir()] == [B]
    assert greenml("runs", "rm", A, "--purge", "--yes")[0] == 2


def test_it_asks_first(db: Store, greenml: Greenml, monkeypatch: pytest.MonkeyPatch) -> None:
    record(db, A, [0.9, 0.9], [1e5, 1e5], name="the \x1b[31mbest")
    leave_files(db, A, model="x" * 2500)
    answer(monkeypatch, "n")
    code, out, err = greenml("runs", "rm", "a", "--purge")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "aaaaaaaaaaaa  cnn on digits, 2 epochs, 90.0 %  the \N{REPLACEMENT CHARACTER}[31mbest",
        "purge 1 run with 2 epochs and 2.50 kB of files for good? [y/N] nothing was removed",
    ]
    answer(monkeypatch, "yes")
    assert greenml("runs", "rm", "a")[0] == 0
    assert shown(db) == []


def test_without_a_terminal_it_takes_a_yes_beforehand(
    db: Store, greenml: Greenml, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(db, A, [0.9], [1e5])
    answer(monkeypatch, None)
    code, _, err = greenml("runs", "rm", "a")
    assert (code, err.splitlines()[-2:]) == (
        2,
        ["greenml: error: nobody is there to ask whether to remove 1 run with 1 epoch", "hint: give --yes"],
    )
    assert shown(db) == [A]
    assert greenml("runs", "rm")[2].splitlines()[1] == "hint: greenml runs rm RUN, or --crashed"


def test_a_run_that_lives_is_not_removed(db: Store, greenml: Greenml) -> None:
    with db.claim(A):
        db.write([make_run(A)])
        for more in ([], ["--purge"]):
            code, _, err = greenml("runs", "rm", A, "--yes", *more)
            assert (code, err.splitlines()[0]) == (2, f"greenml: error: run {A} is alive in another process")
        with pytest.raises(StoreError, match="alive"):
            Store(db.path).purge([A])
    assert shown(db) == [A]


def test_crashed_runs_are_listed_and_removed_together(db: Store, greenml: Greenml) -> None:
    assert greenml("runs", "rm", "--crashed", "-y")[::2] == (0, "no run has crashed\n")
    record(db, A, [0.9], [1e5])
    record(db, B, [0.9], [1e5], ended=False)
    record(db, C, [0.9], [1e5], ended=False)
    assert {row["run_id"] for row in json.loads(greenml("runs", "list", "--crashed", "--json")[1])} == {B, C}
    assert greenml("runs", "rm", B, "--crashed", "-y")[2].splitlines()[-1].startswith("2 runs removed")
    assert shown(db) == [A]
    assert greenml("runs", "rm", "--crashed", "--purge", "-y")[2].splitlines()[-1] == "2 runs purged"
    assert {row.run_id for row in records(db)} == {A}


def test_no_folder_is_removed_that_is_not_a_runs(db: Store) -> None:
    """Ids come from other people's stores, too."""
    with pytest.raises(StoreError, match="no id of a run"):
        db.purge(["../.."])
    assert db.path.exists()


# Tags and notes


def test_tags_come_and_go(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5], tags=["old", "good"])
    assert greenml("runs", "tag", "a", "new", "good", "--remove", "old")[::2] == (0, f"{A}  tags: good new\n")
    assert db.rows("select tags from runs") == [{"tags": ["good", "new"]}]
    code, _, err = greenml("runs", "tag", "a", "--remove", "goood")
    assert (code, err.splitlines()[1]) == (2, "hint: did you mean `good`?")
    assert greenml("runs", "tag", "a")[0] == 2
    assert greenml("runs", "tag", "a", "--remove", "good", "--remove", "new")[2] == f"{A}  tags: none\n"


def test_a_note_is_shown_and_an_empty_one_clears(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    assert greenml("runs", "note", "a", "colder room")[0] == 0
    assert "note       colder room" in greenml("runs", "show", "a")[1]
    assert greenml("runs", "note", "a", "")[2] == f"{A}  note: none\n"
    assert db.rows("select note from runs") == [{"note": None}]


# Export


def test_json_has_everything_known_of_each_run(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, A, [0.5, 0.9], [1e5, 1e5])
    record(db, B, [0.9], [1e5], started_at=LATER)
    file = tmp_path / "new" / "runs.json"
    assert greenml("runs", "export", "--output", str(file))[::2] == (0, f"2 runs in {file}\n")
    first, second = json.loads(file.read_text())
    assert [row["record"] for row in first.pop("records")] == ["Run", "Phase", "Phase", "Epoch", "Epoch", "RunEnd"]
    assert [first] == json.loads(greenml("runs", "show", A, "--json")[1])
    assert (second["run_id"], len(first["epoch_rows"])) == (B, 2)
    assert greenml("runs", "export", "b", "--output", str(file))[0] == 2
    assert greenml("runs", "export", "b", "--output", str(file), "--force")[0] == 0
    assert [run["run_id"] for run in json.loads(file.read_text())] == [B]


def test_csv_has_a_row_a_run_or_an_epoch(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, A, [0.5, 0.9], [1e5, 1e5], name='a "quoted"\nname', tags=["x", "y"])
    record(db, B, [0.9], [1e5], started_at=LATER)
    greenml("runs", "export", "-o", str(tmp_path / "runs.csv"))
    greenml("runs", "export", "-o", str(tmp_path / "epochs.csv"), "--epochs")
    with (tmp_path / "runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    with (tmp_path / "epochs.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    assert [(row["run_id"], row["tags"], row["name"]) for row in runs] == [(A, "x y", 'a "quoted"\nname'), (B, "", "")]
    assert [(row["run_id"], row["epoch"]) for row in epochs] == [(A, "1"), (A, "2"), (B, "1")]


def test_a_store_of_some_runs_has_their_files(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    for run_id in (A, B, C):
        record(db, run_id, [0.9], [1e5])
        leave_files(db, run_id, model=run_id)
    file = tmp_path / "share" / "two.duckdb"
    for more in ([], ["--force"]):
        code, _, err = greenml("runs", "export", "c", "a", "-o", str(file), *more)
        assert (code, err.splitlines()[0]) == (0, f"2 runs came from {db.path}")
    exported = Store(file)
    assert records(exported) == [row for row in records(db) if row.run_id != B]
    assert exported.rows("from totals order by all") == exported.rows("from phase_totals order by all")
    assert files_of(exported, A) == {"model": A}
    assert sorted(path.name for path in file.parent.iterdir()) == ["runs", "two.duckdb"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-o", "runs.xlsx"], "runs.xlsx: no way to write `.xlsx`"),
        (["-o", "runs"], "runs: no way to write `runs`"),
        (["-o", "runs.json", "--epochs"], "--epochs writes .csv, not .json"),
        (["zzz", "-o", "runs.json"], "no run starts with `zzz`"),
    ],
)
def test_what_cannot_be_exported(db: Store, greenml: Greenml, arguments: list[str], error: str) -> None:
    record(db, A, [0.9], [1e5])
    code, _, err = greenml("runs", "export", *arguments)
    lines = err.splitlines()
    assert (code, len(lines), lines[0]) == (2, 2, f"greenml: error: {error}")


def test_a_store_beside_the_store_would_share_its_files(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    code, _, err = greenml("runs", "export", "-o", str(db.path.with_name("more.duckdb")))
    assert (code, err.splitlines()[1]) == (2, "hint: name a file in another folder")
    assert greenml("runs", "export", "-o", str(db.path), "--force")[0] == 2
    assert shown(db) == [A]


# Merging


def test_merging_brings_rows_and_files_and_doubles_nothing(db: Store, other: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    record(other, B, [0.5, 0.9], [1e5, None], tags=["t"], note="n")
    other.write([make_resume(B), make_epoch(B, 2, segment=1), make_phase(B, 0, segment=1, epoch=2), make_end(B)])
    leave_files(other, B, model="weights", log="lines")
    theirs, untouched = records(other), other.path.read_bytes()
    listing = sorted(other.path.parent.rglob("*"))
    code, out, err = greenml("runs", "merge", str(other.path))
    assert (code, out, err) == (0, "", f"1 run came from {other.path}\n")
    first = records(db)
    assert [row for row in first if row.run_id == B] == theirs
    assert files_of(db, B) == {"model": "weights", "log": "lines"}
    assert db.rows("from phase_totals order by all") == db.rows("from totals order by all")
    assert greenml("runs", "merge", str(other.path))[2] == f"0 runs came from {other.path}, 1 known already\n"
    assert records(db) == first
    assert (other.path.read_bytes(), sorted(other.path.parent.rglob("*"))) == (untouched, listing)
    assert not list(db.path.parent.rglob("*.partial"))


def test_a_run_that_went_on_elsewhere_comes_back_whole(db: Store, other: Store) -> None:
    """Killed here and taken up again there: what is missing is added, and the row follows the later end."""
    begun = [make_run(A, name="here"), make_phase(A, 0, epoch=1), make_epoch(A, 1)]
    for store in (db, other):
        store.write(begun)
        leave_files(store, A, model="epoch 1", log="first")
        assert store.rows("select status from runs") == [{"status": "crashed"}]
    db.mark([A], note="mine", tags=["kept"])
    other.mark([A], note="theirs", removed_at=LATER)
    other.write([make_resume(A), make_phase(A, 0, segment=1, epoch=2), make_epoch(A, 2, segment=1)])
    leave_files(other, A, model="epoch 2", curves="drawn")
    other.write([make_end(A, ended_at=LATER, best_epoch=2)])
    (db.path.parent / "runs" / A / "own").write_text("only here")

    assert db.merge(other) == stores.Merged(new=[], known=[A], alive=[], apart=[])
    [run] = db.rows("from runs")
    assert (run["status"], run["ended_at"], run["best_epoch"]) == ("done", LATER, 2)
    assert (run["name"], run["note"], run["tags"]) == ("here", "mine", ["kept"])
    assert [row["epoch"] for row in db.rows("from epochs order by epoch")] == [1, 2]
    assert files_of(db, A) == {"curves": "drawn", "log": "first", "model": "epoch 2", "own": "only here"}
    merged = records(db)
    other.mark([A], removed_at=None)
    assert other.merge(db).known == [A]
    assert [row for row in records(other) if not isinstance(row, type(merged[0]))] == merged[1:]
    assert db.merge(other).known == [A]
    assert records(db) == merged


def test_what_was_taken_for_lost_gives_way_to_what_was_measured(db: Store, other: Store) -> None:
    """A copy of a store whose run still lived: here it looks killed."""
    begun = [make_run(A), make_phase(A, 0), make_epoch(A, 1)]
    db.write(begun)
    assert [row["name"] for row in db.rows("from phases order by seq")] == ["train", "lost"]
    other.write([*begun, make_phase(A, 1), make_phase(A, 2), make_end(A)])
    db.merge(other)
    assert records(db) == records(other)
    assert db.rows("select total_j from run_totals") == [{"total_j": 300.0}]


def test_one_run_that_went_on_in_two_places_is_two(db: Store, other: Store, greenml: Greenml) -> None:
    for store, minutes in ((db, 0), (other, 7)):
        began = LATER + timedelta(minutes=minutes)
        phase = make_phase(A, 0, segment=1, started_at=began, ended_at=began + timedelta(seconds=9))
        store.write([make_run(A), make_phase(A, 0), make_end(A), make_resume(A, started_at=began), phase])
        store.write([make_end(A, ended_at=phase.ended_at)])
    before = records(db)
    assert f"skipped {A}: taken up again in both" in greenml("runs", "merge", str(other.path))[2]
    assert records(db) == before


def test_runs_that_live_are_left_out_until_they_end(db: Store, other: Store, greenml: Greenml) -> None:
    record(other, B, [0.9], [1e5])
    with other.claim(A):
        other.write([make_run(A)])
        assert f"skipped {A}: still alive" in greenml("runs", "merge", str(other.path))[2]
        assert shown(db) == [B]
    other.write([make_end(A)])
    assert greenml("runs", "merge", str(other.path))[0] == 0
    assert shown(db) == [A, B]


def test_a_run_that_died_there_has_crashed_here_and_there_it_stays_untold(db: Store, other: Store) -> None:
    other.write([make_run(A), make_phase(A, 0)])
    before = other.path.read_bytes()
    db.merge(other)
    assert db.rows("select status, source from leaderboard") == [{"status": "crashed", "source": "unknown"}]
    assert other.path.read_bytes() == before


def test_what_was_said_survives_and_what_was_removed_stays_removed(db: Store, other: Store) -> None:
    for run_id in (A, B, C):
        record(other, run_id, [0.9], [1e5])
    record(db, B, [0.9], [1e5])
    record(db, C, [0.9], [1e5])
    other.mark([A], removed_at=LATER, note="removed there")
    other.mark([B], note="from there")
    db.mark([C], removed_at=LATER)
    db.merge(other)
    rows = db.rows("select run_id, note, removed_at from run_rows order by run_id")
    assert [tuple(row.values()) for row in rows] == [
        (A, "removed there", LATER),
        (B, "from there", None),
        (C, None, LATER),
    ]


def test_an_older_store_is_read_from_a_copy(db: Store, tmp_path: Path) -> None:
    of_schema_1(tmp_path / "old.duckdb")
    before = (tmp_path / "old.duckdb").read_bytes()
    assert db.merge(Store(tmp_path / "old.duckdb")).new == [A]
    assert (tmp_path / "old.duckdb").read_bytes() == before
    assert db.rows("select rank, epochs from leaderboard") == [{"rank": 1, "epochs": 1}]


def test_what_cannot_be_merged_is_said_in_two_lines(db: Store, other: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, A, [0.9], [1e5])
    (tmp_path / "text.duckdb").write_text("no database" * 1000)
    con = duckdb.connect(f"duckdb:{other.path}")  # noqa: TID251
    con.execute("insert into schema_migrations values (9999, '9999_future.sql', '9.0', now()::timestamp)")
    con.close()
    for path, expected in (
        (db.path, (2, f"greenml: error: {db.path} is this store itself")),
        (tmp_path / "none.duckdb", (2, f"greenml: error: {tmp_path}/none.duckdb does not exist")),
        (tmp_path / "text.duckdb", (3, f"greenml: error: {tmp_path}/text.duckdb is not a DuckDB database")),
        (other.path, (3, f"greenml: error: {other.path} was written by a newer greenml")),
    ):
        code, _, err = greenml("runs", "merge", str(path))
        lines = err.splitlines()
        assert (code, len(lines)) == (expected[0], 2), path
        assert lines[0].startswith(expected[1])


def test_rows_that_wait_beside_the_other_are_announced(other: Store, greenml: Greenml) -> None:
    record(other, A, [0.9], [1e5])
    other.path.with_name("greenml.duckdb.spool").write_text("{}\n")
    assert "1 row wait" in greenml("runs", "merge", str(other.path))[2]


runs_of_rows = st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 2), st.integers(0, 4)), max_size=6)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs_of_rows, runs_of_rows)
def test_merging_is_a_union_whichever_way(
    tmp_path: Path, here: list[tuple[str, int, int]], there: list[tuple[str, int, int]]
) -> None:
    """Rows of the same lives, spread over two stores: both ways give the same, which has them all, once."""
    folder = tmp_path / utc_now().isoformat().replace(":", "")

    def fill(path: Path, rows: list[tuple[str, int, int]]) -> Store:
        store = Store(path)
        store.check()
        for run_id in sorted({run_id for run_id, *_ in rows}):
            of_run: list[Any] = [make_run(run_id), make_end(run_id)]
            # Every life begins with the same reading; what comes after it is here or there.
            of_run += [make_phase(run_id, 0, segment=segment) for segment in range(3)]
            for _, segment, number in (row for row in rows if row[0] == run_id):
                of_run += [make_phase(run_id, 1 + number, segment=segment)]
                of_run += [replace(make_epoch(run_id, 1 + number), segment=segment)]
            store.write(of_run)
        return store

    left, right = fill(folder / "l" / "s.duckdb", here), fill(folder / "r" / "s.duckdb", there)
    both = set(map(repr, [*records(left), *records(right)]))
    left.merge(right)
    right.merge(left)
    assert set(map(repr, records(left))) == set(map(repr, records(right))) == both
    assert len(records(left)) == len(both)
    assert left.rows("from phase_totals order by all") == left.rows("from totals order by all")
    shutil.rmtree(folder)
