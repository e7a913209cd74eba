"""What compression came to: two tables, and the same in sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from greenml import levels
from greenml.console import UNKNOWN, clean, counted, figure, percentage
from greenml.report.tables import (
    ENERGY_KWH,
    POINTS,
    Column,
    Table,
    count,
    draw,
    mark,
    quantity,
    share,
    words,
)
from greenml.units import JOULES_PER_KWH, format_bytes, format_energy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenml.report.content import Content

    Row = dict[str, Any]

BEFORE = "before"
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
FLOPS = ((1e12, "TFLOPs"), (1e9, "GFLOPs"), (1e6, "MFLOPs"), (1e3, "kFLOPs"))
COUNT = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
INTERVAL = "end of the 95 % interval"
STD = "standard deviation (n - 1) over the repeats"
NOTES = (
    "The training of the parent is inherited: without it there would be no smaller model, so that it is in the energy "
    "of each compressed model on the leaderboard. It is in no break-even: it is spent either way.",
    "The break-even counts only what compression itself took (set-up, calibration, fine-tuning with the teacher's "
    "passes, export, test), divided by what a prediction saves. The measuring is counted in the energy of the run and "
    "not here, as nobody who compresses needs it.",
    "Never: the 95 % interval of what a prediction saves touches zero. Parent and compressed model were measured in "
    "turn, in one session, and are compared pair by pair.",
)
ESTIMATED = (
    "Energy marked with ~ is that of a power model, which sees how busy the processor is and not what it computes: "
    "such savings are savings of time. CPU seconds stand beside them."
)


def baseline_of(row: Row) -> str:
    """ "parent, torch fp32": what the row is held against."""
    return f"parent, {row['before_backend']} {row['before_precision']}"


def parent_of(row: Row) -> str:
    """ "cnn 47283f1a"."""
    return " ".join(filter(None, [row["parent_model"], (row["parent"] or "unknown")[:8]]))


def model_of(row: Row) -> str:
    """A row of `served` in words: how the model was made, or that it is the parent."""
    if row["role"] == "after":
        return str(row["method"] or row["model"])
    return "parent" if row["role"] == BEFORE else "parent, in another runtime"


# Tables


def served(content: Content) -> Table | None:
    """One row per model that was measured, and per baseline of the newest session of its parent."""
    rows = content.served
    if not rows:
        return None
    has_many = len({row["parent"] for row in rows}) > 1
    columns = [
        Column("of", "parent", parent_of, is_number=False, first="ascending") if has_many else None,
        Column("model", "name", model_of, is_number=False, first="ascending"),
        Column("runtime", "backend", lambda row: f"{row['backend']} {row['precision']}", is_number=False),
        share("test %", "test_accuracy"),
        points("difference", "accuracy_difference"),
        ending(points("from", "accuracy_low")),
        ending(points("to", "accuracy_high")),
        plain(quantity("size", "num_bytes", rows, BYTES, source="")),
        plain(quantity("p50, batch of 1", "single_p50_s", rows, SECONDS, source="")),
        Column("predictions/s", "throughput", lambda row: figure(row["throughput"])),
        Column("J per 1,000", "energy_j_per_1000", lambda row: joules(row, "energy_j_per_1000"), first="ascending"),
        Column("±", "std_energy_j_per_1000", lambda row: figure(row["std_energy_j_per_1000"], 2), hint=STD),
        Column("n", "num_repeats", lambda row: str(row["num_repeats"]), hint="repeats that the means are made of"),
        Column("CPU s per 1,000", "cpu_s_per_1000", lambda row: figure(row["cpu_s_per_1000"]), first="ascending"),
        count("batch", "batch_size"),
        plain(quantity("a prediction", "flops_per_sample", rows, FLOPS, source="")),
        plain(quantity("parameters", "num_parameters", rows, COUNT, source="")),
        plain(quantity("memory", "memory_bytes", rows, BYTES, source="")),
        Column("run", "model_run", lambda row: row["model_run"][:8], is_number=False, first="ascending"),
    ]
    threads = sorted({f"{row['device']}, {counted(row['num_threads'], 'thread')}" for row in rows})
    notes = [
        "difference: percentage points to the parent on the same test images, from .. to its 95 % interval; "
        "memory: what a fresh process grew by, up to its first answer; ± standard deviation over n repeats",
        f"measured on {'; '.join(threads)}; the parent in each runtime as in the newest session with it",
    ]
    notes += sessions(content)
    drawn = draw("served", "inference", "Parent and compressed models", columns, rows, notes=notes)
    # A row is about the model that answered, not about the run that measured it.
    lines = [
        replace(line, run_id=row["model_run"] if row["role"] != "peer" else None, model=clean(row["model"] or ""))
        for line, row in zip(drawn.lines, rows, strict=True)
    ]
    return replace(drawn, lines=lines)


def paid(content: Content) -> Table | None:
    """One row per compressed model, baseline and batch size."""
    rows = content.compressed
    if not rows:
        return None
    has_many = len({row["parent"] for row in rows}) > 1
    columns = [
        Column("of", "parent", parent_of, is_number=False, first="ascending") if has_many else None,
        words("method", "method"),
        Column("against", "baseline", baseline_of, is_number=False, first="ascending"),
        count("batch", "batch_size"),
        Column("speed-up", "speedup", times("speedup"), hint="ratio of predictions per second, mean over the pairs"),
        ending(Column("from", "speedup_low", times("speedup_low"))),
        ending(Column("to", "speedup_high", times("speedup_high"))),
        Column("pays after", "break_even", even("break_even"), hint="predictions", first="ascending"),
        ending(Column("from", "break_even_low", even("break_even_low"))),
        ending(Column("to", "break_even_high", even("break_even_high"))),
        Column("verdict", "verdict", verdict, is_number=False, first="ascending"),
        quantity("compression took", "compress_kwh", rows, ENERGY_KWH, source="compress_source"),
        quantity("all in", "million_kwh", rows, ENERGY_KWH),
        Column("before", "before_j_per_1000", lambda row: joules(row, "before_j_per_1000"), hint="J per 1,000"),
        Column("after", "after_j_per_1000", lambda row: joules(row, "after_j_per_1000"), hint="J per 1,000"),
        Column("saved", "saved_j_per_1000", lambda row: joules(row, "saved_j_per_1000"), hint="J per 1,000"),
        ending(Column("from", "saved_low_j_per_1000", lambda row: figure(row["saved_low_j_per_1000"]))),
        ending(Column("to", "saved_high_j_per_1000", lambda row: figure(row["saved_high_j_per_1000"]))),
        Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
    ]
    notes = [
        "before, after, saved: J per 1,000 predictions, means over pairs of repeats that lie beside each other in "
        "time; from .. to: the 95 % interval; pays after: predictions until they have saved what compression took; "
        "all in: training, compressing and a million predictions",
        *sessions(content),
    ]
    return draw("paid", "break_even", "What compression saves, and when it has paid", columns, rows, notes=notes)


def sessions(content: Content) -> list[str]:
    """That figures of different sessions are not to be held against each other, where those differ much."""
    most = levels.apart(content.compressed)
    if most is None:
        return []
    return [
        f"each model as its own session measured it: a parent took up to {figure(most, 2)} times as much in one "
        "session as in another. The chart brings them to one level, and so does `greenml board --lifecycle`"
    ]


def points(head: str, field: str) -> Column:
    """Percentage points with two decimals: 0.01 is one of 10,000 test images."""
    return Column(head, field, lambda row: UNKNOWN if row[field] is None else signed(row[field]), hint="points")


def plain(column: Column) -> Column:
    """Of what nobody could tell there is a dash, as in other cells of these tables."""
    return replace(column, show=lambda row: UNKNOWN if row[column.field] is None else column.show(row))


def ending(column: Column) -> Column:
    """The head of an end of an interval says so where a mouse rests."""
    return replace(column, hint=INTERVAL)


def joules(row: Row, field: str) -> str:
    return UNKNOWN if row[field] is None else f"{mark(row['source'])}{figure(row[field])}"


def times(field: str) -> Callable[[Row], str]:
    return lambda row: UNKNOWN if row[field] is None else f"{figure(row[field])} x"


def even(field: str) -> Callable[[Row], str]:
    """Whole predictions, marked as their energy is."""
    return lambda row: UNKNOWN if row[field] is None else f"{mark(row['source'])}{about(row[field])}"


def about(number: float) -> str:
    """Predictions, three digits of them: nobody knows more. 178,000."""
    return f"{float(f'{number:.3g}'):,.0f}"


def verdict(row: Row) -> str:
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"{row['verdict']}{reason}"


# Sentences


def sentences(content: Content) -> list[str]:
    """One for each compressed model: what it gained and lost against its parent, and when it has paid for itself."""
    return [sentence(row) for row in largest(content.compressed)]


def largest(rows: Sequence[Row]) -> list[Row]:
    """Those against the parent as it is served, at the largest batch of each run."""
    own = [row for row in rows if row["baseline"] == BEFORE]
    most = {row["run_id"]: row["batch_size"] for row in sorted(own, key=lambda row: int(row["batch_size"]))}
    return [row for row in own if row["batch_size"] == most[row["run_id"]]]


def sentence(row: Row) -> str:
    told = [f"{row['method'] or row['model']} of {parent_of(row)} (run {row['run_id'][:8]}, {runtime(row, 'after')})"]
    if row["speedup"] is not None:
        told.append(
            f"{figure(row['speedup'])} x the predictions per second of the {baseline_of(row)}"
            f"{between(row, 'speedup', figure)}, in batches of {row['batch_size']:,}"
        )
    if row["accuracy_difference"] is not None:
        told.append(
            f"accuracy {percentage(row['accuracy'])} %, {signed(row['accuracy_difference'])} points"
            f"{between(row, 'accuracy', signed)}"
        )
    if row["num_bytes"] and row["before_num_bytes"]:
        told.append(f"{format_bytes(row['num_bytes'])} instead of {format_bytes(row['before_num_bytes'])}")
    return f"{told[0]}: {'; '.join([*told[1:], payback(row)])}."


def payback(row: Row) -> str:
    took = (
        "compression took an unknown amount"
        if row["compress_kwh"] is None
        else f"compression took {mark(row['compress_source'])}{format_energy(row['compress_kwh'] * JOULES_PER_KWH)}"
    )
    if row["verdict"] == "pays":
        sign = mark(row["source"])
        after = f"{sign}{about(row['break_even'])} predictions{between(row, 'break_even', about)}"
        return f"{took} and has paid for itself after {after}"
    if row["verdict"] == "never":
        is_worse = row["saved_high_j_per_1000"] is not None and row["saved_high_j_per_1000"] < 0
        why = "a prediction takes more than before" if is_worse else "that a prediction saves anything may be chance"
        return f"{took} and never pays for itself: {why}"
    return f"{took}, and nobody knows whether it pays: {row['reason'] or 'something is unknown'}"


def runtime(row: Row, which: str) -> str:
    return f"{row[f'{which}_backend']} {row[f'{which}_precision']}"


def signed(fraction: float) -> str:
    return f"{POINTS * fraction:+.2f}"


def between(row: Row, field: str, show: Callable[[float], str]) -> str:
    """ " (14.2 to 15.6)": the interval, where there is one."""
    low, high = row[f"{field}_low"], row[f"{field}_high"]
    return "" if low is None or high is None else f" ({show(low)} to {show(high)})"


def notes(content: Content) -> list[str]:
    """What is inherited, what the break-even counts, how the energy is known, and what the baselines are."""
    baselines = list(dict.fromkeys(baseline_of(row) for row in content.compressed))
    said = [*NOTES, f"Baselines, by name: {'; '.join(baselines)}."]
    if any("estimated" in (row["source"], row["compress_source"]) for row in content.compressed):
        said.append(ESTIMATED)
    return said
