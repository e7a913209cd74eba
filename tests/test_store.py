"""The store keeps what it said it keeps: under kills, crowds, full disks and strangers."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_resume, make_run, record
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenml import __version__
from greenml.errors import StoreError, UsageError
from greenml.records import Artifact, Source, from_json, to_json
from greenml.resources import shipped
from greenml.store import Store, resolve_path
from greenml.store.rows import INTENSITY_COLUMNS, LEARNT, columns
from greenml.store.schema import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = "aaaaaaaaaaaa"
WRITER = """
import sys
from pathlib import Path
from conftest import make_epoch, make_run
from greenml.store import Store

db, run_id = Store(Path(sys.argv[1])), sys.argv[2]
with db.claim(run_id):
    db.write([make_run(run_id)])
    for epoch in range(1, int(sys.argv[3]) + 1):
        if db.write([make_epoch(run_id, epoch)]):
            print(epoch, flush=True)
"""


def writer(db: Store, run_id: str, num_epochs: int) -> subprocess.Popen[str]:
    """Another process that writes epochs and prints each one that it was told is safe."""
    command = [sys.executable, "-c", WRITER, str(db.path), run_id, str(num_epochs)]
    return subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)


@contextmanager
def kept_busy(db: Store) -> Iterator[None]:
    """Another writer who does not finish."""
    with FileLock(f"{db.path}.lock"):
        yield


def epochs_of(db: Store, run_id: str = RUN) -> list[int]:
    return [row["epoch"] for row in db.rows("select epoch from epochs where run_id = ? order by epoch", [run_id])]


# What goes in comes out


def test_every_field_of_every_record_comes_back(db: Store) -> None:
    run = make_run(RUN, tags=["a", "b,c"], name='it\'s "mine"', config={"nested": {"x": [1, None, 2.5]}}, device="cuda")
    learnt = {name: getattr(run, name) for name in LEARNT}
    end = make_end(RUN, status="stopped", stop_reason="early-stop", **learnt)
    phase = make_phase(RUN, 0, epoch=1, error_j=0.5, gpu_j=None, gpu_source=Source.UNKNOWN)
    epoch = make_epoch(RUN, 1, train_loss=float("inf"))
    artifact = Artifact(run_id=RUN, name="model.pt", path=f"runs/{RUN}/model.pt", num_bytes=12)
    assert db.write([run, phase, epoch, artifact, end])

    [stored] = db.rows("from runs")
    for field in dataclasses.fields(run):
        if field.name != "intensity":
            assert stored[field.name] == getattr(run, field.name), field.name
    for name, value in dataclasses.asdict(WORLD).items():
        assert stored[INTENSITY_COLUMNS.get(name, name)] == value, name
    for view, kept in (("runs", end), ("phases", phase), ("epochs", epoch), ("artifacts", artifact)):
        [row] = db.rows(f"from {view}")
        told = dataclasses.asdict(kept) | (
            {"value": epoch.val_accuracy, "energy_source": epoch.source} if kept is epoch else {}
        )
        assert {name: row[name] for name in told} == told


joules = st.none() | st.floats(0, 1e9)


@settings(max_examples=50, deadline=None)
@given(cpu_j=joules, gpu_j=joules, name=st.text(), note=st.text())
def test_what_goes_into_the_spool_comes_out(cpu_j: float | None, gpu_j: float | None, name: str, note: str) -> None:
    intensity = dataclasses.replace(WORLD, note=note)
    for row in (
        make_run(name=name, tags=[note], intensity=intensity),
        make_phase(RUN, 0, cpu_j=cpu_j, gpu_j=gpu_j, method=note),
        make_epoch(RUN, 1, energy_j=cpu_j),
        make_end(RUN, test_accuracy=None),
    ):
        assert from_json(to_json(row)) == row


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*[st.floats(0, 1e9)] * 3), min_size=1) | st.lists(st.tuples(*[joules] * 3), min_size=1))
def test_phases_sum_to_the_last_joule(db: Store, parts: list[tuple[float | None, ...]]) -> None:
    rows: list[Any] = [run := make_run()]
    for seq, (cpu_j, gpu_j, ram_j) in enumerate(parts):
        sources = [Source.UNKNOWN if part is None else Source.ESTIMATED for part in (cpu_j, gpu_j, ram_j)]
        named = dict(zip(("cpu_source", "gpu_source", "ram_source"), sources, strict=True))
        rows.append(make_phase(run.run_id, seq, cpu_j=cpu_j, gpu_j=gpu_j, ram_j=ram_j, **named))
    db.write([*rows, make_end(run.run_id)])

    [totals] = db.rows("from run_totals where run_id = ?", [run.run_id])
    assert totals["source"] == Source.worst([row.source for row in rows[1:]])
    if any(None in part for part in parts):
        assert totals["total_j"] is None
    else:
        assert totals["total_j"] == pytest.approx(sum(row.joules for row in rows[1:]))


def test_what_a_run_learnt_on_its_way_is_told_by_its_end_or_stays(db: Store) -> None:
    """A pruned model knows its size when it has been made; what the end leaves open, the run has said."""
    db.write([make_run(RUN, precision="fp32", num_parameters=1000), make_end(RUN, num_parameters=400)])
    assert db.rows("select precision, num_parameters from runs") == [{"precision": "fp32", "num_parameters": 400}]


def test_writing_twice_changes_nothing(db: Store) -> None:
    rows = [make_run(RUN), make_phase(RUN, 0), make_epoch(RUN, 1), make_end(RUN)]
    db.write(rows)
    before = [db.rows(f"from {table}") for table in ("runs", "phases", "epochs", "totals")]
    db.write(rows)
    assert [db.rows(f"from {table}") for table in ("runs", "phases", "epochs", "totals")] == before


# Several processes


def test_several_processes_write_and_one_reads(db: Store) -> None:
    """DuckDB 2.0 loses commits where processes open a file without the `duckdb:` prefix."""
    names = [f"{number:012x}" for number in range(3)]
    writers = [writer(db, name, 15) for name in names]
    while any(process.poll() is None for process in writers):
        assert len(db.rows("from leaderboard")) <= 3
        time.sleep(0.05)
    for name, process in zip(names, writers, strict=True):
        told = [int(line) for line in process.communicate()[0].split()]
        assert told == epochs_of(db, name) == list(range(1, 16))
    assert db.spooled() == 0


def test_kill_9_loses_nothing_that_was_acknowledged(db: Store) -> None:
    for number in range(6):
        run_id = f"{number:012x}"
        process = writer(db, run_id, 10_000)
        assert process.stdout
        told = [int(process.stdout.readline())]
        time.sleep(0.013 * number)
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.communicate()[0].split()]
        assert set(told) <= set(epochs_of(db, run_id))
        assert db.rows("select status from runs where run_id = ?", [run_id]) == [{"status": "crashed"}]


# The spool


def test_rows_that_cannot_be_written_wait_for_the_next_writer(db: Store, caplog: pytest.LogCaptureFixture) -> None:
    busy = Store(db.path, timeout_s=0.05)
    with kept_busy(db):
        assert not busy.write([make_run(RUN), make_phase(RUN, 0)])
        assert not busy.write([make_epoch(RUN, 1), make_end(RUN)])
        assert busy.spooled() == db.spooled() == 4
        assert "held by another writer" in caplog.text
    assert db.write([])
    assert db.spooled() == 0
    assert epochs_of(db) == [1]
    assert db.rows("select status, test_accuracy from runs") == [{"status": "done", "test_accuracy": 0.9}]


def test_what_a_killed_drainer_left_is_drained_again(db: Store) -> None:
    lines = "".join(to_json(row) + "\n" for row in (make_run(RUN), make_epoch(RUN, 1)))
    db.path.with_name("greenml.duckdb.spool.00000000000000000001.draining").write_text(lines)
    db.path.with_name("greenml.duckdb.spool").write_text(to_json(make_epoch(RUN, 2)) + "\n")
    assert db.spooled() == 3
    assert db.write([make_epoch(RUN, 3)])
    assert epochs_of(db) == [1, 2, 3]
    assert not list(db.path.parent.glob("*.draining"))


def test_a_torn_last_line_was_never_acknowledged(db: Store) -> None:
    spool = db.path.with_name("greenml.duckdb.spool")
    spool.write_text(to_json(make_run(RUN)) + "\n" + to_json(make_epoch(RUN, 1))[:40])
    with kept_busy(db):
        assert not Store(db.path, timeout_s=0.05).write([make_epoch(RUN, 2)])
    assert db.write([])
    assert epochs_of(db) == [2]


@pytest.mark.parametrize("line", ["no JSON", '{"record": "Nothing"}', to_json(make_epoch("f" * 12, 1))])
def test_what_nobody_can_read_is_set_aside_and_said(db: Store, caplog: pytest.LogCaptureFixture, line: str) -> None:
    good = [to_json(make_run(RUN)), to_json(make_epoch(RUN, 1))]
    db.path.with_name("greenml.duckdb.spool").write_text("".join(f"{text}\n" for text in (*good, line)))
    assert db.write([make_epoch(RUN, 2)])
    [broken] = db.path.parent.glob("*.broken")
    assert broken.read_text() == f"{line}\n"
    assert str(broken) in caplog.text
    assert epochs_of(db) == [1, 2]


def test_where_even_the_spool_fails_rows_wait_in_memory(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Store(db.path, timeout_s=0.05)
    with kept_busy(db), monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        busy.write([make_run(RUN)])
        busy.write([make_epoch(RUN, 1)])
        assert busy.spooled() >= 2
    assert busy.write([make_epoch(RUN, 2)])
    assert busy.spooled() == 0
    assert epochs_of(db) == [1, 2]


def test_what_no_disk_beside_the_store_takes_is_put_elsewhere(
    db: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Store(db.path, timeout_s=0.05)
    assert busy.unstored() is None
    with kept_busy(db), monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        full.setattr(tempfile, "tempdir", str(tmp_path))
        busy.write([make_run(RUN), make_epoch(RUN, 1)])
        db.path.with_name("greenml.duckdb.spool").unlink()  # a file that grew and was not synced
        error = busy.unstored()
    assert error
    [file] = tmp_path.glob("greenml-*.jsonl")
    assert str(file) in str(error)
    subprocess.run(["bash", "-c", error.hint.partition("then: ")[2].partition(";")[0]], check=True)
    assert db.write([])
    assert epochs_of(db) == [1]


def test_what_waits_in_the_spool_is_said(db: Store) -> None:
    busy = Store(db.path, timeout_s=0.05)
    with kept_busy(db):
        busy.write([make_run(RUN)])
        assert "not all rows are stored yet (1 wait)" in str(busy.unstored())


FULL = """
import resource, sys
from pathlib import Path
from conftest import make_phase
from greenml.store import Store

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # what a full disk looks like from here
db = Store(Path(sys.argv[1]))
stored = [db.write([make_phase("a" * 12, seq)]) for seq in range(40)]
print(stored.count(False), db.spooled())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize(("limit", "hits_the_log"), [(20_000, True), (200_000, False)])
def test_a_full_disk_loses_nothing(db: Store, limit: int, hits_the_log: bool) -> None:
    """Where a commit does not fit, rows wait in the spool; where only the file may not grow, the log has them."""
    db.write([make_run(RUN)])
    command = [sys.executable, "-c", FULL, str(db.path), str(limit)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    failed, waiting = map(int, done.stdout.split())
    assert failed == waiting == db.spooled()
    assert (failed > 0) == hits_the_log
    assert db.write([])
    assert db.rows("select count(*) as n from phases where name = 'train'") == [{"n": 40}]


# Crashed runs


def test_a_run_whose_lock_is_free_has_crashed(db: Store) -> None:
    with db.claim(RUN) as folder:
        assert folder == db.path.parent / "runs" / RUN
        db.write([make_run(RUN), make_phase(RUN, 0, epoch=1)])
        assert db.rows("select status from runs") == [{"status": "running"}]
        with pytest.raises(StoreError, match="alive"), Store(db.path).claim(RUN):
            pass
    [run] = db.rows("select status, ended_at from runs")
    assert run == {"status": "crashed", "ended_at": STARTED_AT + timedelta(seconds=10)}


def test_what_a_killed_run_used_last_is_lost_and_makes_the_total_unknown(db: Store) -> None:
    db.write([make_run(RUN), make_phase(RUN, 0), make_phase(RUN, 1, epoch=1)])
    [lost] = db.rows("from phases where name = 'lost'")
    assert (lost["seq"], lost["epoch"], lost["cpu_j"], lost["gpu_j"]) == (2, 1, None, 0)
    [totals] = db.rows("from run_totals")
    assert (totals["total_j"], totals["known_j"], totals["source"]) == (None, 200, "unknown")


def test_a_life_that_died_before_its_first_phase_lost_all_that_it_used(db: Store) -> None:
    db.write([make_run(RUN), make_phase(RUN, 0), make_end(RUN, status="interrupted"), make_resume(RUN)])
    [lost] = db.rows("from phases where name = 'lost'")
    assert (lost["segment"], lost["seq"], lost["epoch"]) == (1, 0, 2)
    assert lost["started_at"] == lost["ended_at"] == STARTED_AT + timedelta(hours=1)
    assert db.rows("select status from runs") == [{"status": "crashed"}]


def test_a_run_that_died_before_its_first_phase_is_no_run_for_free(db: Store) -> None:
    db.write([make_run(RUN)])
    [lost] = db.rows("from phases")
    assert (lost["name"], lost["segment"], lost["seq"], lost["joules"]) == ("lost", 0, 0, None)
    assert db.rows("select total_j, source from run_totals") == [{"total_j": None, "source": "unknown"}]


def test_a_life_forgets_the_end_of_the_one_before(db: Store) -> None:
    with db.claim(RUN):
        db.write([make_run(RUN), make_phase(RUN, 0), make_end(RUN), make_resume(RUN)])
        assert db.rows("select status, ended_at, test_accuracy from runs") == [
            {"status": "running", "ended_at": None, "test_accuracy": None}
        ]


def test_an_empty_id_names_no_run(db: Store) -> None:
    db.write([make_run(RUN), make_end(RUN)])
    with pytest.raises(UsageError, match="no run given"):
        db.run_id("")


def test_a_store_may_be_called_anything(tmp_path: Path) -> None:
    odd = Store(tmp_path / "it's [1] *.duckdb", timeout_s=0.05)
    odd.check()
    with kept_busy(odd):
        assert not odd.write([make_run(RUN)])
    lines = odd.path.with_name(f"{odd.path.name}.spool")
    lines.rename(odd.path.with_name(f"{odd.path.name}.spool.00000000000000000001.draining"))
    assert odd.spooled() == 1
    assert odd.write([])
    assert len(odd.rows("from runs")) == 1


def test_a_spooled_end_tells_that_a_run_has_not_crashed(db: Store) -> None:
    db.write([make_run(RUN)])
    with kept_busy(db):
        Store(db.path, timeout_s=0.05).write([make_end(RUN)])
        assert db.rows("select status from runs") == [{"status": "running"}]
    assert db.rows("select status from runs") == [{"status": "done"}]


# Reading


def test_a_store_can_be_moved(db: Store, tmp_path: Path) -> None:
    record(db, RUN, [0.5, 0.9], [100.0, 100.0])
    moved = Store(Path(shutil.move(db.path.parent, tmp_path / "elsewhere")) / db.path.name)
    assert len(moved.rows("from leaderboard")) == 1
    assert moved.write([make_epoch(RUN, 3)])


def test_who_cannot_write_sees_crashes_all_the_same(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: tests may run as root, whom read-only files do not stop."""
    record(db, RUN, [0.9], [100.0], ended=False)
    monkeypatch.setattr(Store, "_bury", lambda *_: (_ for _ in ()).throw(StoreError("read-only", hint="")))
    assert db.rows("select status from runs") == [{"status": "crashed"}]
    assert db.rows("select unranked from leaderboard") == [{"unranked": "crashed"}]


def test_a_read_only_store_can_be_read_and_not_written(db: Store) -> None:
    record(db, RUN, [0.9], [100.0])
    db.path.chmod(0o444)
    db.path.parent.chmod(0o555)
    try:
        if os.access(db.path, os.W_OK):
            pytest.skip("this user (root?) writes wherever it likes")
        assert len(Store(db.path).rows("from leaderboard")) == 1
        with pytest.raises(StoreError, match="cannot be written"):
            Store(db.path).check()
    finally:
        db.path.parent.chmod(0o755)


def test_who_has_other_views_and_cannot_write_sees_crashes_too(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record(db, RUN, [0.9], [100.0], ended=False)
    by_hand(db, "update schema_views set hash = 'another', greenml_version = '999.0'")
    monkeypatch.setattr(Store, "_bury", lambda *_: (_ for _ in ()).throw(StoreError("read-only", hint="")))
    assert db.rows("select status, unranked from leaderboard") == [{"status": "crashed", "unranked": "crashed"}]


def test_nothing_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert Store(tmp_path / "none.duckdb").rows("from leaderboard") == []
    assert not (tmp_path / "none.duckdb").exists()


def test_a_prefix_names_one_run(db: Store) -> None:
    db.write([make_run("abc111111111"), make_run("abc222222222"), make_run("def000000000")])
    assert db.run_id("d") == "def000000000"
    with pytest.raises(UsageError, match="2 runs start with `abc`: abc"):
        db.run_id("abc")
    with pytest.raises(UsageError) as caught:
        db.run_id("abc11111112")
    assert "did you mean `abc111111111`" in caught.value.hint


def test_the_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENML_STORE", raising=False)
    assert resolve_path(None) == Path("store/greenml.duckdb")
    monkeypatch.setenv("GREENML_STORE", "there.duckdb")
    assert resolve_path(None) == Path("there.duckdb")
    assert resolve_path(Path("here.duckdb")) == Path("here.duckdb")


# Other versions, and strangers


def by_hand(db: Store, sql: str) -> None:
    con = duckdb.connect(f"duckdb:{db.path}")  # noqa: TID251
    con.execute(sql)
    con.close()


def test_readers_bring_their_own_views_where_the_file_has_others(db: Store) -> None:
    record(db, RUN, [0.9], [100.0])
    by_hand(
        db,
        """
        create or replace view leaderboard as select 'another' as version;
        create or replace view epochs as select * from epoch_rows where false;
        update schema_views set hash = 'another', greenml_version = '999.0'
        """,
    )
    [row] = db.rows("from leaderboard")
    assert row["run_id"] == RUN
    assert epochs_of(db) == [1]
    assert Store(db.path).write([])  # an older writer leaves newer views alone
    assert db.rows("select hash from schema_views") == [{"hash": "another"}]


def test_a_newer_writer_replaces_older_views(db: Store) -> None:
    by_hand(db, "update schema_views set hash = 'another', greenml_version = '0.0.1'")
    Store(db.path).check()
    assert db.rows("select greenml_version from schema_views") == [{"greenml_version": __version__}]


def test_a_newer_schema_is_read_and_not_written(db: Store) -> None:
    record(db, RUN, [0.9], [100.0])
    by_hand(db, "insert into schema_migrations values (9999, '9999_future.sql', '9.0', now()::timestamp)")
    assert len(Store(db.path).rows("from leaderboard")) == 1
    with pytest.raises(StoreError, match="newer greenml") as caught:
        Store(db.path).check()
    assert "upgrade" in caught.value.hint


def of_schema_1(path: Path) -> None:
    """A store as the first greenml left it: its tables, and views that this version has replaced."""
    con = duckdb.connect(f"duckdb:{path}")  # noqa: TID251
    con.execute((shipped("sql") / "schema" / "0001_runs.sql").read_text())
    con.execute("insert into schema_migrations values (1, '0001_runs.sql', '0.0.1', now()::timestamp)")
    con.execute("insert into schema_views values ('old', '0.0.1'); create view leaderboard as select run_id from runs")
    run = columns(make_run(RUN, tags=["old"])) | columns(make_end(RUN))
    phase, epoch = columns(make_phase(RUN, 0)), columns(make_epoch(RUN, 1))
    for table, row in (("runs", run), ("phase_rows", phase), ("epoch_rows", epoch)):
        names = {name for name, *_ in con.execute(f"from {table} limit 0").description}
        values = {name: value for name, value in ({"run_key": 1} | row).items() if name in names}
        marks = ", ".join("?" * len(values))
        con.execute(f"insert into {table} ({', '.join(values)}) values ({marks})", [*values.values()])
    con.execute("insert into totals values (1, 10, 90, 0, 10, 100, 'estimated', 'absent', 'estimated', 0); checkpoint")
    con.close()


def test_a_reader_brings_an_older_schema_up_to_date(tmp_path: Path) -> None:
    of_schema_1(tmp_path / "old.duckdb")
    old = Store(tmp_path / "old.duckdb")
    [row] = old.rows("from leaderboard")
    assert (row["run_id"], row["rank"], row["note"], row["grad_accum"]) == (RUN, 1, None, 1)
    assert old.write([make_epoch(RUN, 2, num_samples=5)])
    assert [row["num_samples"] for row in old.rows("from epochs order by epoch")] == [None, 5]
    assert old.rows("select max(version) as version from schema_migrations") == [{"version": max(migrations())}]


def test_the_time_of_a_run_that_had_counted_its_waits_no_longer_does(db: Store) -> None:
    """As a store of schema 6 has it: ten seconds of waiting and ten of training as twenty."""
    other = "b" * 12
    db.write([make_run(RUN), make_phase(RUN, 0, name="wait"), make_phase(RUN, 1), make_end(RUN)])
    record(db, other, [0.9], [100.0])
    by_hand(
        db,
        """
        update totals set duration_s = duration_s + waited_s;
        alter table totals drop column waited_s;
        delete from schema_migrations where version = 7
        """,
    )
    times = "select duration_s, waited_s from run_totals order by run_id"
    assert Store(db.path).rows(times) == [
        {"duration_s": 10.0, "waited_s": 10.0},
        {"duration_s": 10.0, "waited_s": 0.0},
    ]


def test_an_older_schema_that_cannot_be_written_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: tests may run as root, whom read-only files do not stop."""
    of_schema_1(tmp_path / "old.duckdb")
    before = (tmp_path / "old.duckdb").read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match=r"old.duckdb is of an older greenml \(schema 1\)") as caught:
        Store(tmp_path / "old.duckdb").rows("from leaderboard")
    assert caught.value.hint == "copy it to a place that can be written, and give --store the copy"
    assert (tmp_path / "old.duckdb").read_bytes() == before


def foreign_text(path: Path) -> None:
    path.write_text("not a database\n" * 1000)


def foreign_duckdb(path: Path) -> None:
    con = duckdb.connect(f"duckdb:{path}")  # noqa: TID251
    con.execute("create table somebody (x integer)")
    con.close()


def corrupt(path: Path) -> None:
    Store(path).check()
    data = bytearray(path.read_bytes())
    data[12_288:] = b"\0" * (len(data) - 12_288)
    path.write_bytes(data)


def truncated(path: Path) -> None:
    Store(path).check()
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.parametrize("spoil", [foreign_text, foreign_duckdb, corrupt, truncated, Path.mkdir])
def test_what_is_no_store_is_refused_early_and_left_alone(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "store.duckdb"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    for use in (lambda: Store(path).check(), lambda: Store(path).rows("from runs")):
        with pytest.raises(StoreError) as caught:
            use()
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert caught.value.hint
    assert before is None or path.read_bytes() == before


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "store.duckdb").touch()
    assert Store(tmp_path / "store.duckdb").write([make_run(RUN)])


def test_somebody_else_holds_the_file(db: Store) -> None:
    """A DuckDB shell that stays open: writers spool, readers say who it is."""
    hold = f"import duckdb, time; c = duckdb.connect('duckdb:{db.path}'); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        holder.stdout.readline()
        impatient = Store(db.path, timeout_s=0.1)
        assert not impatient.write([make_run(RUN)])
        with pytest.raises(StoreError, match=f"in use by .*{holder.pid}"):
            impatient.rows("from runs")
    finally:
        holder.kill()
        holder.communicate()
    assert db.write([])
    assert len(db.rows("from runs")) == 1


def test_ctrl_c_while_duckdb_works_is_ctrl_c(db: Store) -> None:
    """DuckDB names what a signal handler raised so, and nothing is stored."""
    db.write([make_run("a" * 12)])

    def interrupted() -> None:
        with db._writing(5) as con:
            con.execute("delete from run_rows")
            raise RuntimeError("Query interrupted")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(db.rows("from runs")) == 1
