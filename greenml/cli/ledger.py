"""Whether a smaller model was worth it: what its answers cost beside its parent's, and when compressing has paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml import console, levels
from greenml.console import UNKNOWN, Column, figure, percentage
from greenml.records import SIGNS
from greenml.units import JOULES_PER_KWH, format_alike, format_bytes, format_duration, format_energy, format_flops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.store import Store

    Row = dict[str, Any]

LIFETIME, PER_DAY = 1_000_000, 100_000
"""Predictions, and predictions a day, where nobody says how many."""
JOULES = "J/1000: joules of 1000 predictions"
SPREAD = f"{JOULES}, ± half of the 95 % interval of their mean"
COUNTS = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"), (1.0, ""))
SHORT_COUNTS = ((1e9, "bn"), (1e6, "M"), (1.0, ""))
"""In a column."""
NAMES = {"before": "its parent", "after": "this model"}
CHILDREN = """
    with sizes as (
        select run_key, max(batch_size) as largest, min(batch_size) as smallest
        from inference
        group by run_key
    )
    select
        runs.parent,
        runs.run_id,
        runs.name,
        runs.status,
        runs.model,
        runs.method,
        runs.precision,
        runs.test_accuracy,
        break_even.* exclude (run_id, parent, model, method, dataset, contest, run_key, source) replace (
            break_even.break_even / break_even.level as break_even,
            break_even.break_even_low / break_even.level as break_even_low,
            break_even.break_even_high / break_even.level as break_even_high
        ),
        measured.num_bytes as after_num_bytes,
        measured.num_parameters,
        measured.flops_per_sample,
        measured.throughput,
        -- Where it was not measured beside its parent there is no level.
        measured.energy_j_per_1000 * coalesce(break_even.level, 1) as energy_j_per_1000,
        measured.energy_low_j_per_1000 * coalesce(break_even.level, 1) as energy_low_j_per_1000,
        measured.energy_high_j_per_1000 * coalesce(break_even.level, 1) as energy_high_j_per_1000,
        measured.cpu_s_per_1000,
        alone.batch_size as small_batch_size,
        alone.latency_p50_s as small_latency_p50_s,
        alone.latency_p95_s as small_latency_p95_s,
        -- Of the joules, and of what they say.
        measured.source as measured_source,
        break_even.source
    from runs
    left join sizes using (run_key)
    left join break_even
        on break_even.run_key = runs.run_key
        and break_even.baseline = 'before'
        and break_even.batch_size = sizes.largest
    left join inference as measured
        on measured.run_key = runs.run_key and measured.name = 'after' and measured.batch_size = sizes.largest
    left join inference as alone
        on alone.run_key = runs.run_key and alone.name = 'after' and alone.batch_size = sizes.smallest
    where runs.kind = 'compress' and (runs.parent in (select unnest($1)) or runs.run_id in (select unnest($2)))
    order by runs.started_at, runs.run_key
"""
"""The compressed models of these parents, and these themselves, in their largest batches and against their parents;
sessions are brought to one level, the median of what the parent took in them."""


def of_runs(db: Store, run_ids: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
    """Run -> its rows of `inference`, `break_even` and `children`; empty where there is nothing compressed about it."""
    names = ("inference", "break_even", "children")
    found: dict[str, dict[str, list[Row]]] = {run_id: {name: [] for name in names} for run_id in run_ids}
    concerned = "where kind = 'compress' and (run_id in (select unnest($1)) or parent in (select unnest($1)))"
    if not db.rows(f"select 1 as one from runs {concerned} limit 1", [list(run_ids)]):
        return found  # as fast as in a store without them
    for view in ("inference", "break_even"):
        baseline = (
            "baseline <> 'before', baseline" if view == "break_even" else "name <> 'after', name <> 'before', name"
        )
        sql = f"""
            select * exclude (run_key)
            from {view}
            where run_id in (select unnest(?))
            order by batch_size desc, {baseline}
        """
        for row in db.rows(sql, [list(run_ids)]):
            found[row["run_id"]][view].append(with_lifetime(row) if view == "break_even" else row)
    for row in db.rows(CHILDREN, [list(run_ids), []]):
        found[row["parent"]]["children"].append(row)
    return found


# As the command that compressed says it


def show(db: Store, run_id: str, *, per_day: float | None) -> None:
    """What a compression came to, on stdout."""
    rows = of_runs(db, [run_id])[run_id]
    if rows["inference"]:
        console.out().print(inference_table(rows["inference"]))
    told = facts(rows["break_even"], rows["inference"], per_day)
    if rows["break_even"]:
        told.insert(0, ("accuracy", f"{percentage(rows['break_even'][0]['accuracy'])} %"))
    console.out().print(console.facts(told))
    explain({row["source"] for row in rows["inference"]})


def compare(db: Store, parent: str, run_ids: Sequence[str], *, per_day: float | None) -> None:
    """What several compressions of one parent came to, in one table on stdout, the parent first."""
    rows = [row for row in db.rows(CHILDREN, [[], list(run_ids)]) if row["parent"] == parent]
    console.out().print(children_table(rows, original(db, rows), per_day))
    explain_children(rows)
    explain({row["measured_source"] for row in rows})


# Of a compressed run


def facts(break_even: Sequence[Row], inference: Sequence[Row], per_day: float | None) -> list[tuple[str, str]]:
    """The ledger: label and text, the weightiest baseline and batch first."""
    told: list[tuple[str, str]] = []
    if break_even:
        first = break_even[0]
        told += [("difference", difference_in_words(first)), ("size", size_in_words(first))]
        told.append(("operations", operations_in_words(inference)))
        took = f"{spent(first['compress_kwh'], first['compress_source'])} to compress"
        told.append(("it took", f"{took}, {spent(first['measuring_kwh'], first['compress_source'])} to measure"))
    for row in break_even:
        of = "break-even" if row["baseline"] == "before" else f"against {row['baseline']}"
        told.append((of, f"in batches of {row['batch_size']:,}: {verdict(row, per_day)}"))
        if row["baseline"] == "before":
            told += [("", saving(row))]
    if break_even:
        told.append(("lifetime", lifetime_in_words(break_even[0])))
    if inference and not break_even:
        told.append(("break-even", "unknown: the two models were not measured side by side"))
    return [(label, text) for label, text in told if text]


def verdict(row: Row, per_day: float | None) -> str:
    """When a compression has paid, or why it never does, or why nobody knows."""
    if row["verdict"] == "unknown":
        return f"unknown: {row['reason']}"
    if row["verdict"] == "never":
        if row["saved_high_j_per_1000"] < 0:
            return "never: a prediction takes more than before"
        return "never: the interval of what is saved touches zero"
    values = [row["break_even"], row["break_even_low"], row["break_even_high"]]
    (value, low, high), unit = format_alike(values, COUNTS)
    words = f"paid back after {sign(row['source'])}{value} {unit}".rstrip() + f" predictions ({low} to {high})"
    if per_day is None:
        return words
    return f"{words}; {figure(row['break_even'] / per_day)} days at {per_day:,.0f} a day"


def with_lifetime(row: Row, per_day: float | None = None) -> Row:
    """A row of `break_even`, and what its model and its parent take in all: training, compressing and predictions;
    where somebody says how many a day, when it has paid in days."""
    base, each = row["train_kwh"], LIFETIME / 1000 / JOULES_PER_KWH
    own = [base, row["compress_kwh"], row["after_j_per_1000"]]
    before = [base, row["before_j_per_1000"]]
    told: Row = {
        "lifetime_predictions": LIFETIME,
        "total_kwh": None if None in own else own[0] + own[1] + own[2] * each,
        "before_total_kwh": None if None in before else before[0] + before[1] * each,
        "daily_predictions": per_day,
    }
    for end in ("", "_low", "_high"):
        paid = row[f"break_even{end}"]
        told[f"days{end}"] = None if paid is None or per_day is None else paid / per_day
    return row | told


def lifetime_in_words(row: Row) -> str:
    """What a lifetime of predictions takes with this model, and what it would with its parent."""
    told = with_lifetime(row)
    if told["total_kwh"] is None or told["before_total_kwh"] is None:
        return ""
    totals = [spent(told[name], row["source"]) for name in ("total_kwh", "before_total_kwh")]
    return f"{totals[0]} with training and {LIFETIME:,} predictions, its parent's {totals[1]}"


def saving(row: Row) -> str:
    """What lies between the two, with its interval, and how much faster the new one is."""
    if row["saved_j_per_1000"] is None:
        return ""
    verb, more, turn = ("saves", "", 1) if row["saved_j_per_1000"] >= 0 else ("takes", " more", -1)
    words = f"{verb} {sign(row['source'])}{figure(turn * row['saved_j_per_1000'])} J{more} in 1000 predictions"
    if row["saved_low_j_per_1000"] is not None:
        low, high = sorted(turn * row[f"saved_{end}_j_per_1000"] for end in ("low", "high"))
        words += f" ({figure(low)} to {figure(high)})"
    if row["speedup"] is None:
        return words
    faster = f"{figure(row['speedup'])} times its throughput"
    if row["speedup_low"] is not None:
        faster += f" ({figure(row['speedup_low'])} to {figure(row['speedup_high'])})"
    return f"{words}; {faster}"


def difference_in_words(row: Row) -> str:
    """Points of accuracy against the parent, with the interval."""
    if row["accuracy_difference"] is None:
        return ""
    points, low, high = (f"{100 * row[f'accuracy_{key}']:+.2f}" for key in ("difference", "low", "high"))
    return f"{points} points of accuracy against its parent ({low} to {high}), on the same test images"


def size_in_words(row: Row) -> str:
    """Of the files, and what share of the parent's that is."""
    own, before = row["num_bytes"], row["before_num_bytes"]
    share = f", {figure(100 * own / before)} % of its parent's {format_bytes(before)}" if before else ""
    return format_bytes(own) + share


def operations_in_words(inference: Sequence[Row]) -> str:
    """What a prediction is reckoned with, and what its parent's was; nothing where that cannot be counted."""
    told = {}
    for row in inference:
        if row["num_parameters"] is not None and row["flops_per_sample"] is not None:
            told[row["name"]] = format_flops(row["flops_per_sample"]), f"{row['num_parameters']:,}"
    if not {"after", "before"} <= told.keys():
        return ""
    (flops, parameters), before = told["after"], " and ".join(told["before"])
    return f"{flops} a prediction and {parameters} parameters, its parent's {before}"


def shares(run: Row) -> str:
    """What a compressed run inherited, told apart from what it took itself."""
    inherited = run["inherited_kwh"]
    words = "what its parents took is unknown" if inherited is None else f"{energy_of(inherited)} of it by its parents"
    return f"{words}, {'unknown' if run['own_kwh'] is None else energy_of(run['own_kwh'])} by itself"


def inference_table(rows: Sequence[Row]) -> Any:
    """What each model's answers took. CPU-seconds stand beside joules that a model of power gave."""
    is_estimated = any(row["source"] == "estimated" for row in rows)
    return console.table(
        [
            Column("answers of", lambda row: NAMES.get(row["name"]) or str(row["name"]), right=False, shrinks=True),
            Column("in", lambda row: f"{row['backend']} {row['precision']}", right=False, wide=True),
            Column("batch", lambda row: f"{row['batch_size']:,}"),
            Column("p50", lambda row: duration(row["latency_p50_s"])),
            Column("p95", lambda row: duration(row["latency_p95_s"])),
            Column("per s", lambda row: figure(row["throughput"])),
            Column("J/1000", joules),
            Column("mg/1000", grams, wide=True),
            *([Column("CPU-s/1000", lambda row: figure(row["cpu_s_per_1000"]))] if is_estimated else []),
            Column("acc. %", lambda row: f"{100 * row['test_accuracy']:.2f}"),
            Column("memory", lambda row: size(row["memory_bytes"]), wide=True),
        ],
        rows,
    )


# Of a parent


def original(db: Store, children: Sequence[Row]) -> Row | None:
    """The parent's own line, as the newest of its children measured it; None where none did."""
    measured = [row for row in children if row["baseline"]]
    if not measured:
        return None
    newest = ([row for row in measured if row["verdict"] != "unknown"] or measured)[-1]
    sql = """
        select
            inference.*,
            min_by(inference.latency_p50_s, inference.batch_size) over () as small_latency_p50_s,
            runs.model
        from inference
        left join runs on runs.run_id = inference.model_run
        where inference.run_id = ? and inference.role = 'before'
        order by inference.batch_size desc
        limit 1
    """
    for row in db.rows(sql, [newest["run_id"]]):
        ends = ("energy_j_per_1000", "energy_low_j_per_1000", "energy_high_j_per_1000")
        levelled = {end: None if row[end] is None else row[end] * newest["level"] for end in ends}
        return {
            **dict.fromkeys(newest),
            **row,
            **levelled,
            "run_id": row["model_run"],
            "method": "as it is",
            "status": "done",
            "accuracy": row["test_accuracy"],
            "after_num_bytes": row["num_bytes"],
            "measured_source": row["source"],
        }
    return None


def children_table(children: Sequence[Row], first: Row | None, per_day: float | None) -> Any:
    """What a model was compressed to, and whether that pays."""
    rows = [first, *children] if first else children
    return console.table(
        [
            Column("method", lambda row: row["method"] or "", right=False, shrinks=True),
            Column("run", lambda row: (row["run_id"] or "")[:8], right=False, wide=True),
            Column("acc. %", lambda row: percentage(row["accuracy"])),
            Column("diff.", difference),
            Column("size", lambda row: size(row["after_num_bytes"])),
            Column("p50", lambda row: duration(row["small_latency_p50_s"])),
            Column("per s", lambda row: figure(row["throughput"]), wide=True),
            Column("J/1000", joules),
            Column("CPU-s", lambda row: figure(row["cpu_s_per_1000"]), wide=True),
            Column("compress", lambda row: spent(row["compress_kwh"], row["compress_source"]), wide=True),
            Column("break-even", break_even),
            *([Column("days", lambda row: days(row, per_day))] if per_day else []),
        ],
        rows,
    )


def explain_children(rows: Sequence[Row]) -> None:
    """What the columns of that table mean, and what it cannot say."""
    sizes = sorted({row["batch_size"] for row in rows if row["batch_size"]}, reverse=True)
    small = sorted({row["small_batch_size"] for row in rows if row["small_batch_size"]})
    if sizes:
        console.say(
            f"diff.: points of accuracy against the parent on the same test images; p50: of a batch of "
            f"{' or '.join(map(str, small))}; the rest in batches of {' or '.join(map(str, sizes))}; "
            "CPU-s: of 1000 predictions"
        )
    if said := levels_in_words(rows):
        console.say(said)
    for row in rows:
        if row["baseline"] is None and row["status"] != "running":
            console.say(f"– {row['method']} {row['run_id'][:8]}: {row['status']}, not measured")
        elif row["verdict"] == "unknown":
            console.say(f"– unknown, {row['reason']}: {row['method']} {row['run_id'][:8]}")


def levels_in_words(rows: Sequence[Row]) -> str | None:
    """That sessions of one parent differ much, and what is done about it; None where they do not."""
    most = levels.apart(rows)
    if most is None:
        return None
    return (
        f"a parent took up to {figure(most, 2)} times as much in one session as in another: joules are brought to the "
        "median of its sessions, in the proportion that was measured side by side"
    )


# Cells


def break_even(row: Row) -> str:
    """Predictions after which it has paid, in few signs."""
    if row["verdict"] != "pays":
        return str(row["verdict"] or "")
    return sign(row["source"]) + short(row["break_even"])


def short(count: float) -> str:
    """1234 -> "1,230", 1.2e6 -> "1.20 M": no more digits than are known."""
    (value,), unit = format_alike([float(f"{count:.3g}")], SHORT_COUNTS)
    return f"{value} {unit}".rstrip()


def days(row: Row, per_day: float | None) -> str:
    return figure(row["break_even"] / per_day) if per_day and row["break_even"] is not None else ""


def difference(row: Row) -> str:
    """Points of accuracy against the parent."""
    return "" if row["accuracy_difference"] is None else f"{100 * row['accuracy_difference']:+.2f}"


def joules(row: Row, *, with_interval: bool = True) -> str:
    """Of a thousand predictions, with half of its 95 % interval and the mark of its source."""
    mean, high = row["energy_j_per_1000"], row["energy_high_j_per_1000"]
    if mean is None:
        return UNKNOWN
    spread = "" if high is None or not with_interval else f"±{figure(high - mean, 2)}"
    return sign(row.get("measured_source") or row["source"]) + figure(mean) + spread


def grams(row: Row) -> str:
    """The CO2 of a thousand predictions, in milligrams, with half of its 95 % interval."""
    mean, high = row["co2_g_per_1000"], row["co2_high_g_per_1000"]
    if mean is None:
        return UNKNOWN
    spread = "" if high is None else f"±{figure(1000 * (high - mean), 2)}"
    return sign(row["source"]) + figure(1000 * mean) + spread


def sign(source: str | None) -> str:
    """What stands before a figure whose joules were not all measured."""
    return SIGNS.get(source or "", "")


def spent(kwh: float | None, source: str | None) -> str:
    """Energy with the mark of its source."""
    return UNKNOWN if kwh is None else sign(source) + energy_of(kwh)


def energy_of(kwh: float) -> str:
    """Energy in the unit that suits it."""
    return format_energy(kwh * JOULES_PER_KWH)


def duration(seconds: float | None) -> str:
    """Latencies are short: in milliseconds below a second, in three digits."""
    if seconds is None:
        return UNKNOWN
    return f"{figure(1000 * seconds)} ms" if seconds < 1 else format_duration(seconds)


def size(num_bytes: int | None) -> str:
    return UNKNOWN if num_bytes is None else format_bytes(num_bytes)


def explain(sources: set[str]) -> None:
    """What ± and the marks of these sources mean."""
    console.say(SPREAD)
    for legend in console.legends(sources):
        console.say(legend)
