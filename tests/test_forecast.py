"""What a run will take: arithmetic first, then the commands, for real, on digits."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import bench_forecast
import pytest
import torch
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_resume, make_run
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from greenml import config as configs
from greenml import environment, forecast
from greenml.cli import forecasts
from greenml.cli.screen import Screen, fitting
from greenml.forecast import Budgets, Ledger, Work
from greenml.learn import models
from greenml.learn.flops import flops_per_sample
from greenml.records import Progress

CPU = {"cpu": "a CPU", "threads": 2, "gpu": None, "torch_threads": 2}
METER = {part: {"method": "a power model"} for part in ("cpu", "gpu", "ram")}


def past(**changes):
    """A run of the history: 3 s and 30 J of set-up, 100 s and 1000 J for 10^12 operations."""
    values = {
        "run_id": "a" * 12, "kind": "train", "model": "resnet18", "family": "resnet", "dataset": "digits",
        "precision": "fp32", "batch_size": 64, "image_size": 16, "flops_per_sample": 10**8, "scope": "machine",
        "device": "cpu", "hardware": CPU, "config": {}, "meter": METER, "started_at": STARTED_AT,
        "num_trained": 3000, "num_evaluated": 1000, "num_lives": 1, "setup_s": 3.0, "setup_j": 30.0,
        "work_s": 100.0, "work_j": 1000.0,
    }  # fmt: skip
    return values | changes


def work(run=None, **changes):
    """Ten epochs of what `past` did."""
    run = run or past()
    values = {
        "kind": forecast.kind(run), "dataset": run["dataset"], "machine": forecast.machine(run),
        "metering": forecast.metering(run), "methods": None,
        "flops_per_sample": run["flops_per_sample"], "num_train": 300, "num_val": 50, "num_test": 500, "epochs": 10,
    }  # fmt: skip
    return Work(**values | changes)


def ledger_of(*epochs, setup=30.0, test=None):
    """A ledger of epochs, each (training, validation) in joules, at 10 W."""
    ledger, now = Ledger(), STARTED_AT
    parts = [("setup", None, setup)]
    for number, (train, validate) in enumerate(epochs, start=1):
        parts += [("train", number, train), ("validate", number, validate)]
    for name, epoch, joules in parts + ([("test", None, test)] if test else []):
        after = now + timedelta(seconds=joules / 10)
        ledger.book(name, epoch, 0, now, after, joules)
        now = after
    return ledger


# After the first epochs


def after(*epochs, done=None, of=10, **more):
    sizes = {"num_val": 50, "num_test": 500}
    return forecast.after(ledger_of(*epochs), done=done or len(epochs), epochs=of, **sizes | more)


def test_equal_epochs_go_on_as_they_were():
    made = after((100.0, 10.0), (100.0, 10.0))

    assert made.energy_j.value == pytest.approx(30 + 10 * 110 + 10 * 10)  # ten times as many test images
    assert made.duration_s.value == pytest.approx(made.energy_j.value / 10)
    assert made.num_epochs == 2


def test_what_only_the_first_epoch_took_is_not_expected_again():
    """Half as much again: what goes beyond a tenth is its own."""
    made = after((150.0, 10.0), (100.0, 10.0), of=100)

    mean_epoch = (1.1 * 110 + 110) / 2
    assert made.energy_j.value == pytest.approx(30 + 160 + 110 + 98 * mean_epoch + 10 * 10)


def test_after_the_last_epoch_only_the_test_is_open():
    made = after((100.0, 10.0), (100.0, 10.0), of=2)

    assert made.energy_j.value == pytest.approx(30 + 220 + 100)
    assert made.energy_j.low >= 30 + 220


def test_what_comes_after_the_test_is_expected_too():
    """Weights are loaded for the test, and books closed: as dear as the files and rows that were written before."""
    ledger = ledger_of((100.0, 10.0), (100.0, 10.0))
    for epoch, joules in ((1, 4.0), (1, 2.0), (2, 6.0)):
        name = "record" if joules == 2.0 else "checkpoint"
        ledger.book(name, epoch, 0, STARTED_AT, STARTED_AT + timedelta(seconds=joules / 10), joules)

    made = forecast.after(ledger, done=2, epochs=2, num_val=50, num_test=500)

    assert made.energy_j.value == pytest.approx(30 + 220 + 12 + 100 + 2 * 4.0)
    assert made.duration_s.value == pytest.approx(made.energy_j.value / 10)
    assert made.energy_j.high - made.energy_j.value > 2 * 4.0  # nobody has seen it yet


def test_a_gap_makes_the_energy_unknown_and_leaves_the_time():
    ledger = ledger_of((100.0, 10.0))
    ledger.book("train", 2, 0, STARTED_AT, STARTED_AT + timedelta(seconds=10), None)
    ledger.book("validate", 2, 0, STARTED_AT, STARTED_AT + timedelta(seconds=1), None)

    made = forecast.after(ledger, done=2, epochs=10, num_val=50, num_test=500)

    assert made.energy_j is None
    assert made.duration_s.value == pytest.approx(3 + 10 * 11 + 10 * 1)


def test_an_epoch_that_was_torn_apart_is_spent_and_no_example():
    """A resumed run: epoch 2 began in one life and ended in the next."""
    ledger = ledger_of((100.0, 10.0), (60.0, 0.0))
    ledger.book("setup", None, 1, STARTED_AT, STARTED_AT + timedelta(seconds=3), 30.0)
    ledger.book("train", 2, 1, STARTED_AT, STARTED_AT + timedelta(seconds=10), 100.0)
    ledger.book("validate", 2, 1, STARTED_AT, STARTED_AT + timedelta(seconds=1), 10.0)

    made = forecast.after(ledger, done=2, epochs=10, num_val=50, num_test=500)

    assert made.num_epochs == 1
    assert made.energy_j.value == pytest.approx(30 + 110 + 60 + 30 + 110 + 8 * 110 + 100)


def test_nothing_is_said_without_a_whole_epoch():
    assert forecast.after(Ledger(), done=0, epochs=10, num_val=50, num_test=500) is None


def test_budgets_end_the_training_and_the_test_comes_on_top():
    made = after((100.0, 10.0), (100.0, 10.0), budgets=Budgets(joules=500.0))

    assert made.at_most
    assert made.energy_j.value == pytest.approx(500 + 100)
    assert made.duration_s.value == pytest.approx(made.energy_j.value / 10)
    by_time = after((100.0, 10.0), (100.0, 10.0), budgets=Budgets(seconds=50.0))
    assert by_time.energy_j.value == pytest.approx(500 + 100)


def test_a_budget_that_is_spent_already_leaves_the_test():
    made = after((100.0, 10.0), (100.0, 10.0), budgets=Budgets(joules=10.0))

    assert made.energy_j.value == pytest.approx(250 + 100)


def test_early_stopping_makes_it_at_most_until_nothing_can_be_stopped():
    early = Budgets(may_stop_early=True)

    assert after((100.0, 10.0), budgets=early).at_most
    assert not after((100.0, 10.0), of=1, budgets=early).at_most
    assert not after((100.0, 10.0)).at_most


joules = st.floats(1e-3, 1e6)
epochs = st.lists(st.tuples(joules, joules), min_size=1, max_size=6)


@given(epochs, st.integers(0, 50), st.floats(1e-3, 1e3))
def test_intervals_hold_the_value_grow_with_the_epochs_and_have_no_unit(seen, more, factor):
    made = after(*seen, of=len(seen) + more)
    longer = after(*seen, of=len(seen) + more + 1)
    assert 0 < made.energy_j.low <= made.energy_j.value <= made.energy_j.high
    assert made.energy_j.value <= longer.energy_j.value
    assert made.duration_s.value <= longer.duration_s.value

    times = [(factor * train, factor * validate) for train, validate in seen]
    scaled = forecast.after(
        ledger_of(*times, setup=factor * 30), done=len(seen), epochs=len(seen) + more, num_val=50, num_test=500
    )
    assert scaled.energy_j.value == pytest.approx(
        factor * made.energy_j.value, rel=1e-3
    )  # times are whole microseconds
    assert scaled.energy_j.high == pytest.approx(factor * made.energy_j.high, rel=1e-3)


def test_more_of_the_same_makes_it_surer():
    """Relative to what is still to come."""
    one, four = after((100.0, 10.0)), after(*[(100.0, 10.0)] * 4)

    def doubt(made, done):
        return (made.energy_j.high - made.energy_j.low) / (110 * (10 - done))

    assert doubt(four, 4) < doubt(one, 1)


# Before the first epoch


def test_work_is_counted_in_operations():
    """A third of the past run's training, in ten epochs, and its share of evaluated images."""
    made = forecast.before(work(), [past()])

    flops = 1e8 * (10 * (3 * 300 + 50) + 500)
    assert made.energy_j.value == pytest.approx(30 + 1000 * flops / 1e12)
    assert made.duration_s.value == pytest.approx(3 + 100 * flops / 1e12)
    assert made.energy_j.low < made.energy_j.value < made.energy_j.high
    assert (made.run_ids, made.newest_at) == (("a" * 12,), STARTED_AT)


def test_without_history_nothing_is_said():
    assert forecast.before(work(), []) is None
    assert forecast.before(work(flops_per_sample=None), [past()]) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"hardware": CPU | {"cpu": "another CPU"}},
        {"hardware": CPU | {"threads": 64}},
        {"hardware": CPU | {"gpu": "a GPU"}},
        {"device": "cuda"},
        {"scope": "process"},
        {"config": {"meter": "counters"}},
        {"config": {"tdp": 65.0}},
    ],
)
def test_the_history_of_other_machines_and_meters_is_not_ours(elsewhere):
    assert forecast.before(work(), [past(**elsewhere)]) is None


def test_when_the_meter_changed_only_what_it_said_since_counts():
    """RAPL became readable: the estimates of before are another meter's."""
    measured = {part: {"method": "RAPL"} for part in METER}
    later = past(run_id="b" * 12, meter=measured, work_j=5000.0, started_at=STARTED_AT + timedelta(days=1))

    assert forecast.before(work(), [past(), later]).run_ids == ("b" * 12,)
    assert forecast.before(work(methods=forecast.methods(past())), [past(), later]).run_ids == ("a" * 12,)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ({}, {"batch_size": 32}),
        ({"batch_size": 32}, {"precision": "bf16"}),
        ({"batch_size": 32}, {"hardware": CPU | {"torch_threads": 1}}),
        ({"precision": "bf16"}, {"model": "resnet34"}),
        ({"model": "resnet34"}, {"model": "resnet34", "precision": "bf16"}),
        ({"model": "resnet34", "precision": "bf16"}, {"model": "cnn", "family": "cnn"}),
    ],
)
def test_the_nearest_runs_decide_and_farther_ones_make_it_less_sure(near, far):
    near, far = past(run_id="b" * 12, **near), past(run_id="c" * 12, work_j=9000.0, **far)

    both = forecast.before(work(), [far, near])
    alone = forecast.before(work(), [far])

    assert both.run_ids == ("b" * 12,)
    assert alone.run_ids == ("c" * 12,)
    assert alone.energy_j.high / alone.energy_j.value >= both.energy_j.high / both.energy_j.value


def test_micro_runs_count_by_what_they_did():
    """Sums over sums: a run of a second at ten times the price changes little."""
    micro = past(run_id="b" * 12, num_trained=30, num_evaluated=10, work_s=1.0, work_j=100.0)

    made = forecast.before(work(), [past(), micro])

    rate = (1000 + 100) / (1e12 + 1e10)
    assert made.energy_j.value == pytest.approx(30 + rate * 1e8 * (10 * 950 + 500))


def test_a_history_that_agrees_with_itself_makes_it_surer():
    def doubt(history):
        made = forecast.before(work(), history)
        return made.energy_j.high / made.energy_j.low

    def named(work_j):
        return [past(run_id=f"{n:012x}", work_j=joules) for n, joules in enumerate(work_j)]

    assert doubt(named([1000.0] * 5)) < doubt(named([1000.0])) < doubt(named([300.0, 3000.0, 900.0, 1800.0]))


def test_runs_from_before_operations_were_counted_serve_their_own_model():
    old = past(flops_per_sample=None)

    assert forecast.before(work(), [old]).energy_j.value == forecast.before(work(), [past()]).energy_j.value
    assert forecast.before(work(), [old | {"model": "resnet34"}]) is None


def test_unknown_joules_leave_the_time():
    made = forecast.before(work(), [past(work_j=None, setup_j=None)])

    assert made.energy_j is None
    assert made.duration_s.value > 0


@given(st.integers(1, 100), st.floats(1e-3, 1e3))
def test_before_the_first_epoch_too(num_epochs, factor):
    made, longer = (forecast.before(work(epochs=n), [past()]) for n in (num_epochs, num_epochs + 1))
    scaled = forecast.before(work(epochs=num_epochs), [past(work_j=factor * 1000, setup_j=factor * 30)])

    assert made.energy_j.low <= made.energy_j.value <= made.energy_j.high
    assert made.energy_j.value < longer.energy_j.value
    assert scaled.energy_j.value == pytest.approx(factor * made.energy_j.value)


# Out of the store


def store_run(db, run_id, *, finished=True, **changes):
    """Set-up of 10 s, two epochs of 10 s training and 10 s validation each, a test of 10 s; 100 J each."""
    rows = [
        make_run(run_id, flops_per_sample=10**6, hardware=CPU, meter=METER, **changes),
        make_phase(run_id, 0, name="setup"),
    ]
    for epoch in (1, 2):
        rows += [
            make_phase(run_id, 2 * epoch - 1, name="train", epoch=epoch),
            make_phase(run_id, 2 * epoch, name="validate", epoch=epoch),
            make_epoch(run_id, epoch, num_samples=1000),
        ]
    rows.append(make_phase(run_id, 5, name="train", epoch=3))  # interrupted: nobody knows how far it came
    if finished:
        rows += [make_phase(run_id, 6, name="test"), make_end(run_id)]
    else:
        rows.append(make_end(run_id, status="interrupted", test_accuracy=None, test_count=None))
    db.write(rows)


def asked(**changes):
    run = {
        "run_id": "", "device": "cpu", "hardware": CPU, "model": "cnn", "config": {}, "scope": "machine", "meter": {},
        "dataset": "digits", "precision": "fp32", "image_size": 16, "flops_per_sample": 10**6, "num_train": 1149,
        "num_val": 288, "num_test": 360,
    }  # fmt: skip
    return run | changes


def test_history_is_what_whole_epochs_and_tests_took(db):
    store_run(db, "a" * 12)

    [row] = forecasts.history(db, asked())

    assert row["family"] == "cnn"
    assert (row["num_lives"], row["setup_s"], row["setup_j"]) == (1, 10.0, 100.0)
    assert (row["work_s"], row["work_j"]) == (50.0, 500.0)  # without the epoch that was interrupted
    assert (row["num_trained"], row["num_evaluated"]) == (2000, 2 * 288 + 360)


def test_history_leaves_out_what_shared_the_machine_itself_and_what_was_never_metered(db):
    store_run(db, "a" * 12)
    store_run(db, "b" * 12, kind="estimate")
    db.write([make_run("d" * 12, hardware=CPU), make_phase("d" * 12, 0, name="setup", overlap_s=3.0)])

    assert [row["run_id"] for row in forecasts.history(db, asked())] == ["a" * 12]
    assert forecasts.history(db, asked(run_id="a" * 12)) == []
    assert forecasts.history(db, asked(hardware=CPU | {"cpu": "another"})) == []


def test_an_old_history_is_used_and_said_to_be_stale(db):
    config = configs.validate({"model": "cnn", "dataset": "digits"})
    now = datetime.now(UTC).replace(tzinfo=None)
    store_run(db, "a" * 12, started_at=now - timedelta(days=45))

    old = forecasts.before(db, asked(), config, WORLD)
    assert forecasts.is_stale(old)
    assert "stale: 45 days old" in forecasts.basis(old)

    store_run(db, "b" * 12, started_at=now - timedelta(days=3))
    assert forecasts.basis(forecasts.before(db, asked(), config, WORLD)).endswith("(bbbbbbbb, aaaaaaaa), 3 days old")


def wanted(**keys):
    return configs.validate({"model": "cnn", "dataset": "digits"} | keys)


def test_what_cannot_be_counted_is_said_not_to_be(db):
    uncountable = forecasts.unknown(None, asked(flops_per_sample=None), wanted(), db)

    assert uncountable == "the operations of cnn cannot be counted: there is no forecast before its first epoch"


def test_the_way_out_asks_for_what_the_history_is_compared_by(db, monkeypatch):
    monkeypatch.setenv("GREENML_STORE", str(db.path))
    keys = {"scope": "process", "meter": "counters", "tdp": 65.0, "device": "cpu", "batch_size": 64}

    assert forecasts.unknown(None, asked(), wanted(), db) == (
        "no history on this machine: run one calibration epoch: greenml estimate cnn --dataset digits --calibrate"
    )
    assert forecasts.way_out(asked(), wanted(**keys), db) == (
        "greenml estimate cnn --dataset digits --device cpu --meter counters --scope process --tdp 65.0 "
        "--batch-size 64 --calibrate"
    )
    monkeypatch.delenv("GREENML_STORE")
    assert f"--store {db.path} --calibrate" in forecasts.way_out(asked(), wanted(), db)


def test_runs_that_were_metered_otherwise_are_named(db):
    store_run(db, "a" * 12)

    assert forecasts.lack(asked(), []) == "no history on this machine"
    larger = asked(hardware=CPU | {"threads": 64})
    assert forecasts.lack(larger, forecasts.history(db, larger)) == "no history on this machine"
    other = asked(scope="process", config={"tdp": 65.0})
    assert forecasts.lack(other, forecasts.history(db, other)) == (
        "1 run on this machine, but none metered this way (codecarbon, scope process, 65 W TDP)"
    )
    measured = asked(meter={part: {"method": "RAPL"} for part in METER})
    assert forecasts.lack(measured, forecasts.history(db, measured)) == (
        "what meters this machine has changed since the runs on it"
    )


def test_a_training_without_history_says_so(db):
    outlook = forecasts.Outlook(db, wanted(), WORLD, "a" * 12, resumed=False)
    measured = {part: {"method": "RAPL"} for part in METER}
    run = make_run("a" * 12, hardware=CPU, flops_per_sample=10**6, meter=measured)

    assert outlook.hear(run).forecast is None
    assert outlook.lack == "no history on this machine"
    store_run(db, "b" * 12)
    assert outlook.hear(run).forecast is None  # its meter has another method
    assert outlook.lack == "what meters this machine has changed since the runs on it"


def test_a_forecast_says_what_its_joules_rest_on():
    meter = {
        "cpu": {"source": "measured", "method": "RAPL", "constants": {}},
        "gpu": {"source": "absent", "method": "no GPU"},
        "ram": {"source": "estimated", "method": "20 W model"},
    }
    made = forecast.before(work(), [past(meter=meter)])
    said = forecasts.in_words(made, WORLD)

    assert said[1][1].endswith(": energy x PUE 1 x 475 g/kWh")
    assert [text for label, text in said if not label] == [
        "where CPU is measured: RAPL",
        "where RAM is estimated: 20 W model",
    ]
    assert made.to_plain()["metered"]["cpu"] == {"source": "measured", "method": "RAPL"}


def test_unread_energy_has_words_of_its_own(db):
    made = forecast.before(work(), [past(work_j=None, setup_j=None)])

    assert forecasts.in_words(made, WORLD)[0] == ("energy", f"unknown: {forecasts.UNREAD}")
    assert forecasts.unknown(made, asked(), wanted(), db) == forecasts.UNREAD
    row = forecasts.row(made, asked(num_parameters=1), wanted(), WORLD, run_id=None, unknown=forecasts.UNREAD)
    assert (row["energy_kwh"], row["co2_g"], row["source"]) == (None, None, "unknown")
    assert row["duration_s"] > 0


def test_budgets_come_from_the_config():
    config = configs.validate({"model": "cnn", "time_budget": "1m", "energy_budget": "1Wh", "carbon_budget": "0.1g"})

    budgets = forecasts.budgets_of(config, WORLD)

    assert budgets.seconds == 60
    assert budgets.joules == pytest.approx(0.1 / 475 * 3.6e6)  # carbon is the tighter one
    assert not budgets.may_stop_early
    assert forecasts.budgets_of(configs.validate({"model": "cnn", "target_acc": 0.9}), WORLD).may_stop_early


def test_a_run_that_goes_on_knows_what_it_took_before(db):
    store_run(db, "a" * 12, finished=False)
    config = configs.validate({"model": "cnn", "dataset": "digits", "epochs": 4})
    outlook = forecasts.Outlook(db, config, WORLD, "a" * 12, resumed=True)
    begin = STARTED_AT + timedelta(hours=1)

    def phase(seq, name, epoch):
        return make_phase("a" * 12, seq, segment=1, name=name, epoch=epoch, started_at=begin, ended_at=begin)

    for row in (phase(0, "setup", None), phase(1, "train", 3), phase(2, "validate", 3)):
        outlook.hear(row)
    outlook.hear(make_epoch("a" * 12, 3, segment=1))

    spent = 6 * 100 + 3 * 100
    assert outlook.latest.num_epochs == 2  # the third was begun before
    assert outlook.latest.energy_j.value == pytest.approx(spent + 200 + 100 * 360 / 288)


def test_in_the_midst_of_an_epoch_the_rest_shrinks_with_every_step(db):
    config = configs.validate({"model": "cnn", "dataset": "digits", "epochs": 2})
    outlook = forecasts.Outlook(db, config, WORLD, "a" * 12, resumed=False)
    outlook.latest = after((100.0, 10.0), of=2)
    whole = outlook.latest.energy_j

    def now(done, energy_j):
        progress = Progress(what="training", done=done, total=100, epoch=2, watts=10.0, energy_j=energy_j)
        return outlook.energy_by_now(progress)

    assert now(0, 140.0) == whole
    assert now(50, 240.0).value == pytest.approx(240 + (whole.value - 140) / 2)  # twice as dear as expected
    assert now(100, 400.0).value == 400.0


# The commands, for real


def test_a_pause_within_a_life_is_followed_by_a_set_up_of_its_own(db):
    """Two set-ups in one life, the second of two phases; another in the next life."""
    names = ("setup", "train", "checkpoint", "wait", "setup", "setup", "train")
    phases = [
        make_phase("a" * 12, seq, name=name, epoch=1 if name == "train" else None) for seq, name in enumerate(names)
    ]
    db.write([make_run("a" * 12, hardware=CPU), *phases, make_epoch("a" * 12, 1)])
    again = make_phase("a" * 12, 0, segment=1, name="setup")
    db.write([make_resume("a" * 12), again, make_end("a" * 12)])
    [row] = forecasts.history(db, asked())
    assert (row["num_lives"], row["setup_s"]) == (3, 40.0)


def test_estimate_says_plainly_that_it_cannot_know(here):
    code, printed, said = here("estimate", "cnn", "--dataset", "digits")

    assert (code, printed) == (0, "")
    assert said.splitlines()[-1] == (
        "no history on this machine: run one calibration epoch: greenml estimate cnn --dataset digits --calibrate"
    )


def test_an_estimate_counts_with_the_intensity_that_it_is_given_and_follows_no_hours(here):
    _, _, said = here("estimate", "cnn", "--dataset", "digits", "--intensity", "250")
    assert "250 g/kWh at all times, as given with --intensity" in said
    _, _, said = here("estimate", "cnn", "--dataset", "digits", "--region", "DE", "--trace", "de.csv")
    assert "; the yearly factor counts here, and not de.csv" in said
    code, _, said = here("estimate", "cnn", "--dataset", "digits", "--intensity", "250", "--trace", "de.csv")
    assert code == 2
    assert "both say what a kWh emits" in said


def test_estimate_refuses_to_invent_a_past(here):
    code, printed, said = here("estimate", "cnn", "--dataset", "digits", "--record", "--epochs", "5")

    assert (code, printed) == (2, "")
    assert said.splitlines()[-2] == "greenml: error: nothing to estimate it from"
    assert "--calibrate" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--accuracy", "90"], "--accuracy is about a training of the past"),
        (["--record", "--accuracy", "900"], "`900` is no accuracy"),
        (["--record", "--started-at", "2999-01-01"], "--started-at 2999-01-01 00:00 is in the future"),
        (["--epochs", "0"], "--epochs: should be greater than or equal to 1"),
        (["--no-such-flag"], "no such option: --no-such-flag"),
        (["--resume", "aaaa"], "no such option: --resume"),
    ],
)
def test_estimate_is_strict(here, flags, error):
    code, _, said = here("estimate", "cnn", "--dataset", "digits", *flags)

    assert code == 2
    assert error in said


def test_calibrate_then_estimate_plan_record_and_train(here):
    """One story, as a calibration takes some seconds."""
    cheap = ["--dataset", "digits", "--batch-size", "64", "--num-threads", "1"]
    code, printed, said = here("estimate", "cnn", *cheap, "--calibrate", "--epochs", "2")
    assert code == 0, said
    assert "never ranked" in said
    assert "no --region: world average" in said
    assert "where CPU is estimated: " in printed
    assert printed.startswith("energy")
    assert "1 run of this model, batch and image size" in printed

    code, printed, _ = here("estimate", "cnn", *cheap, "--epochs", "2", "--json")
    [row] = json.loads(printed)
    assert row["energy_kwh_low"] < row["energy_kwh"] < row["energy_kwh_high"]
    assert row["co2_g"] == pytest.approx(475 * row["energy_kwh"])
    assert (row["flops_per_sample"], row["is_stale"], len(row["run_ids"])) == (5_133_312, False, 1)
    assert (row["source"], row["pue"], row["intensity_g_per_kwh"], row["run_id"]) == ("estimated", 1.0, 475.0, None)
    assert row["runs_metered"]["ram"]["source"] == "estimated"

    code, printed, said = here("estimate", "cnn", *cheap, "--scope", "process")
    assert (code, printed) == (0, "")
    assert "1 run on this machine, but none metered this way (codecarbon, scope process)" in said
    assert said.strip().endswith("--scope process --batch-size 64 --num-threads 1 --calibrate")

    code, printed, said = here("train", "cnn", *cheap, "--epochs", "2", "--dry-run")
    assert code == 0
    assert "energy " in said
    assert "of this model, batch and image size" in said
    assert printed.startswith("model: cnn\n")

    code, printed, said = here(
        "estimate", "cnn", *cheap, "--epochs", "2", "--record", "--started-at", "2026-03-01T12:00", "--accuracy", "91%",
        "--json",
    )  # fmt: skip
    assert code == 0, said
    [stored] = json.loads(printed)
    almost_now = f"{datetime.now():%Y-%m-%dT%H:%M:%S}"
    code, printed, said = here("estimate", "cnn", *cheap, "--epochs", "2000", "--record", "--started-at", almost_now)
    assert (code, printed) == (2, "")
    assert "it would not be over yet" in said
    code, printed, said = here("estimate", "cnn", *cheap, "--epochs", "3", "--record", "--json")
    assert code == 0, said
    code, printed, _ = here("runs", "show", json.loads(printed)[0]["run_id"], "--json")
    [just_over] = json.loads(printed)
    assert just_over["started_at"] < just_over["ended_at"] <= f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"

    code, printed, said = here("train", "cnn", *cheap, "--epochs", "2", "--quiet")
    assert code == 0, said
    code, printed, _ = here("board", "--json")
    by_kind = {row["kind"]: row for row in json.loads(printed) if row["run_id"] != just_over["run_id"]}
    assert by_kind["calibrate"]["unranked"] == "a calibration, not a training"
    assert by_kind["calibrate"]["group_hash"] is None
    recorded = by_kind["estimate"]
    assert (recorded["unranked"], recorded["source"], recorded["epochs"]) == ("never metered", "estimated", 2)
    assert recorded["accuracy"] == 0.91
    assert recorded["energy_kwh"] == pytest.approx(row["energy_kwh"])
    assert recorded["run_id"] == stored["run_id"]
    assert recorded["cpu_method"].startswith("from 1 run of this model")
    code, printed, _ = here("runs", "show", recorded["run_id"])
    shown = " ".join(printed.split())
    assert "estimated: from 1 run of this model" in shown
    assert "before its first epoch" not in shown

    code, printed, _ = here("runs", "show", by_kind["train"]["run_id"], "--json")
    [known] = json.loads(printed)
    assert known["forecast"]["energy_j"]["low"] < known["forecast"]["energy_j"]["value"]
    assert known["flops_per_sample"] == 5_133_312
    assert len(known["dependencies_hash"]) == 16
    code, printed, _ = here("runs", "show", by_kind["train"]["run_id"])
    assert "before its first epoch, from 1 run of this model" in " ".join(printed.split())


# What a run is


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet18", "resnet"),
        ("resnet10t", "resnet"),
        ("mobilenet_v2", "efficientnet"),  # timm builds both in one module
        ("mobilenetv3_small_050", "mobilenetv3"),
        ("vit_tiny_patch16_224", "vision_transformer"),
        ("cnn", "cnn"),
        ("densenoise_42b", "densenoise"),
    ],
)
def test_families_are_modules_of_timm_or_names_up_to_a_digit(name, family):
    assert models.family(name) == family


def test_operations_are_counted_as_by_hand():
    """Three 3x3 convolutions with pooling between them, and two matrices; a multiplication and an addition are two."""
    model, _ = models.create("cnn", num_classes=10, in_chans=3, image_size=32, model_args={})
    convolutions = 32 * 32 * 9 * 3 * 32 + 16 * 16 * 9 * 32 * 64 + 8 * 8 * 9 * 64 * 128
    assert flops_per_sample(model, 3, 32) == 2 * (convolutions + 4 * 4 * 128 * 256 + 256 * 10)


def test_counting_leaves_the_model_as_it_was():
    model, _ = models.create("mobilenetv2_050", num_classes=10, in_chans=3, image_size=32, model_args={})
    before = {name: value.clone() for name, value in model.state_dict().items()}

    assert flops_per_sample(model, 3, 32) > 10**6

    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_cannot_be_counted_is_none():
    class Picky(nn.Module):
        """Asks for values, which tensors without memory do not have; and then for a batch."""

        def __init__(self, least):
            super().__init__()
            self.least, self.head = least, nn.Linear(3 * 8 * 8, 10)

        def forward(self, images):
            if images.sum().item() < -1 or len(images) < self.least:
                raise ValueError("not enough")
            return self.head(images.flatten(1))

    assert flops_per_sample(Picky(least=1), 3, 8) == 2 * 192 * 10  # by a real image
    assert flops_per_sample(Picky(least=2), 3, 8) is None
    assert flops_per_sample(nn.Sequential(nn.Flatten(), nn.PReLU(1)), 3, 8) is None  # nothing that is counted


def test_the_hash_is_of_every_package_and_version(monkeypatch):
    found = environment.dependencies_hash()
    packages = [SimpleNamespace(name="Torch", version="2.15.0"), SimpleNamespace(name="timm", version="1.0")]

    assert len(found) == 16
    assert found == environment.dependencies_hash()
    monkeypatch.setattr(environment, "distributions", lambda: packages)
    first = environment.dependencies_hash()
    monkeypatch.setattr(environment, "distributions", lambda: packages[::-1] * 2)
    assert environment.dependencies_hash() == first
    packages[1].version = "1.1"
    assert environment.dependencies_hash() != first


@pytest.mark.parametrize("program", ["/somewhere/bin/greenml", "/somewhere/greenml/__main__.py"])
def test_the_command_can_be_pasted(monkeypatch, program):
    monkeypatch.setattr("sys.argv", [program, "train", "cnn", "--name", "a b"])

    assert environment.command() == "greenml train cnn --name 'a b'"


# On screen


def test_lines_of_epochs_fit_80_columns(db, tmp_path, capsys):
    config = configs.validate({"model": "cnn", "dataset": "digits", "epochs": 100})
    outlook = forecasts.Outlook(db, config, WORLD, "a" * 12, resumed=False)
    screen = Screen(tmp_path, 100, WORLD, outlook, quiet=False)
    for joules in (1.0, 54_321.0, 3.6e6 * 123):
        outlook.latest = after((joules, joules / 10), of=100, budgets=Budgets(may_stop_early=True))
        screen.show(
            make_epoch("a" * 12, 99, val_accuracy=1.0, duration_s=36_000.0, energy_total_j=joules, energy_j=joules)
        )
    lines = capsys.readouterr().err.splitlines()

    assert len(lines) == 3
    assert all(len(line) <= 80 and " of <" in line and " to " in line for line in lines)


def test_what_matters_least_gives_way():
    parts = [(["loss"], 0), (["12 W"], 2), (["20 g"], 1)]

    assert [fitting(parts, width) for width in (16, 15, 11, 3)] == [
        "loss  12 W  20 g",
        "loss  20 g",
        "loss  20 g",
        "loss",
    ]


def test_the_board_says_where_setting_up_was_most_of_it(db, greenml):
    store_run(db, "a" * 12)
    db.write([make_run("b" * 12), make_phase("b" * 12, 0, name="setup"), make_end("b" * 12)])

    _, _, said = greenml("board")

    assert "set-up took more than half of the energy of cnn bbbbbbbb: longer runs say more" in said


# Recorded runs


def test_forecasts_are_as_near_as_they_were():
    """What `tests/bench_forecast.py` measured over the recorded runs, and a little more; what is worse fails here."""
    runs = bench_forecast.recorded()
    after_two, after_all = bench_forecast.after_epochs(runs), bench_forecast.after_all_epochs(runs)

    assert len(after_two.energy) >= 29
    assert statistics.median(after_two.energy) < 0.03
    assert bench_forecast.p95(after_two.energy) < 0.08
    assert statistics.median(after_two.energy) < statistics.median(after_two.linear) / 5
    assert statistics.mean(after_two.inside) > 0.95
    assert statistics.median(after_all.energy) < 0.006
    assert statistics.mean(after_all.inside) > 0.9


def test_before_the_first_epoch_intervals_are_as_wide_as_they_must_be(tmp_path):
    """Each recorded run out of all others: at any level, about nine in ten end where they were said to."""
    runs = bench_forecast.recorded()
    nearest, by_level = bench_forecast.before_epochs(runs, bench_forecast.history_of(runs, tmp_path))

    assert [*by_level] == [1, 2, 3, 4, 5, 6]
    assert statistics.median(nearest.energy) < 0.33
    assert statistics.mean(nearest.inside) > 0.9
    assert all(statistics.mean(errors.inside) > 0.9 for errors in by_level.values())
