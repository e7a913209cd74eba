"""`greenml board`: which run earned its energy. SQL ranks and sorts; what is here draws."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import config as configs
from greenml import console, exchange
from greenml.cli.ledger import LIFETIME
from greenml.cli.options import (
    EVERYTHING,
    FIRST_RUN,
    LIMIT,
    DatasetOption,
    JsonOption,
    LastOption,
    LimitOption,
    ModelOption,
    StoreOption,
    TagOption,
    chosen,
    flag,
)
from greenml.console import FRONT, SOURCES, SPREAD, UNKNOWN, Column, counted, figure, percentage
from greenml.errors import StoreError, UsageError, nearest
from greenml.titles import titles_of
from greenml.units import JOULES_PER_KWH, JOULES_PER_WH, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from greenml.store import Store

    Row = dict[str, Any]

REFRESH_S = 2.0
SAID = {"model", "precision", "dataset", *configs.OF_ONE_RUN}
"""Keys of a config that a row of groups shows, or that its runs may differ in."""
MANY = 4
"""Keys that are said of a row, at most."""
UNFINISHED = "status in ('running', 'waiting', 'paused', 'crashed', 'failed')"
COUNTS = f"""
    (select count(*) from runs) as _num_runs,
    (select count(*) from runs where {UNFINISHED}) as _num_unfinished
"""
BEST_FIRST = "if(goal = 'min', -value, value) desc nulls last"
"""By whatever the runs of a contest are judged by."""
ORDER = {
    "acc-per-kwh": f"rank nulls last, {BEST_FIRST}",
    "accuracy": BEST_FIRST,
    "energy": "energy_kwh nulls last",
    "co2": "co2_g nulls last",
    "time": "duration_s nulls last",
    "model": "model",
    "started": "started_at desc",
    "energy-to-acc": "energy_to_acc_kwh nulls last",
}
BEST_MEAN_FIRST = "mean_accuracy desc nulls last, if(goal = 'min', -mean_value, mean_value) desc nulls last"
ORDER_OF_GROUPS = {
    "acc-per-kwh": f"rank nulls last, {BEST_MEAN_FIRST}",
    "accuracy": BEST_MEAN_FIRST,
    "energy": "mean_energy_kwh nulls last",
    "co2": "mean_co2_g nulls last",
    "time": "mean_duration_s nulls last",
    "model": "model",
    "started": "started_at desc",
}
INHERITS = "compressed models are charged with what their parents took: --lifecycle shows when they pay"
UNRANKED = "n 0: no run of the group is ranked; its Wh is the mean of its finished runs"


def board(
    by: Annotated[
        list[str] | None,
        flag(
            "--by",
            metavar="KEY",
            help=f"Sort by {', '.join(ORDER)}=85 (what it took to reach 85 %). Give it again for the next key.",
            default="acc-per-kwh",
        ),
    ] = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    last: LastOption = None,
    limit: LimitOption = None,
    grouped: Annotated[
        bool, typer.Option("--grouped", help="One row for all runs of a config, whatever their seed: mean and spread.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also runs that still run, crashed or failed.")] = False,
    lifecycle: Annotated[
        bool, typer.Option("--lifecycle", help="Compressed models beside their parents: what they take, when they pay.")
    ] = False,
    predictions: Annotated[
        int | None, flag("--predictions", min=0, metavar="N", help="Of a lifetime.", default=f"{LIFETIME:,}")
    ] = None,
    predictions_per_day: Annotated[
        int | None, flag("--predictions-per-day", min=1, metavar="N", help="Break-even in days, too.")
    ] = None,
    batch_size: Annotated[
        int | None,
        flag("--batch-size", min=1, metavar="N", help="Of the predictions.", default="the largest that was measured"),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows to FILE instead.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Rank runs by accuracy per kWh, within each data set and split."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    limit = limit or (EVERYTHING if json or csv_file else LIMIT)
    asked: dict[str, Any] = {"dataset": dataset, "model": model, "tag": tag, "last": last}
    of_lives = {"--predictions": predictions, "--predictions-per-day": predictions_per_day, "--batch-size": batch_size}
    of_runs = {"--by": by, "--grouped": grouped or None, "--all": everything or None}
    for name, given in (of_runs if lifecycle else of_lives).items():
        if given is not None:
            hint = "leave one of them out" if lifecycle else f"greenml board --lifecycle {name} {given}"
            raise UsageError(f"`{name}` goes {'not ' * lifecycle}with `--lifecycle`", hint=hint)
    order, target = parse_keys(by or ["acc-per-kwh"], ORDER_OF_GROUPS if grouped else ORDER)
    if lifecycle:
        from greenml.cli import lifecycle as lives

        lifetime = LIFETIME if predictions is None else predictions
        sql, binds = lives.query(asked, limit, lifetime=lifetime, per_day=predictions_per_day, size=batch_size)
    elif grouped:
        sql, binds = query_of_groups(order, asked, limit, everything)
    else:
        sql, binds = query_of_runs(order, target, asked, limit, everything)

    def draw() -> tuple[list[Table], list[str]]:
        rows = db.rows(sql, binds)
        if lifecycle:
            return lives.page(db, rows, lifetime=lifetime, per_day=predictions_per_day, size=batch_size)
        if grouped:
            tables, notes = page(rows, group_columns)
            said = [*apart(rows), *about_groups(rows)]
        else:
            tables, notes = page(rows, lambda metric: columns(metric, target))
            said = [*about_runs(rows), *held_up(db, rows)]
        return tables, [*notes, *said, *left_out(db, rows, everything)]

    if json:
        console.print_json([public(row) for row in db.rows(sql, binds)])
    elif csv_file:
        noun = "models" if lifecycle else "groups" if grouped else "runs"
        write_csv(csv_file, [public(row) for row in db.rows(sql, binds)], noun)
    elif watch:
        if not sys.stdout.isatty():
            raise UsageError("`--watch` needs a terminal", hint="leave it out, or use --json")
        keep_drawing(draw)
    else:
        tables, notes = draw()
        for i, table in enumerate(tables):
            console.out().print(*[""] * (i > 0), table, sep="\n")
        for note in notes:
            console.say(note)


HELD_UP = """
    select
        run_id,
        count(*) filter (what = 'wait') as waits,
        count(*) filter (what = 'pause') as pauses,
        arg_max(saved_share, (segment, seq)) filter (what = 'saved') as saved_share,
        arg_max(saved_source, (segment, seq)) filter (what = 'saved') as saved_source
    from decisions
    where run_id in (select unnest(?))
    group by run_id
    having waits + pauses > 0
    order by max(decided_at) desc
    limit 3
"""


def held_up(db: Store, rows: list[Row]) -> Iterator[str]:
    """The newest runs of the page that stood still for the sake of the grid, and what that came to."""
    for row in db.rows(HELD_UP, [[row["run_id"] for row in rows]]):
        done = [
            f"{verb} {counted(row[what], 'time')}"
            for verb, what in (("waited", "waits"), ("paused", "pauses"))
            if row[what]
        ]
        share = row["saved_share"]
        change = "" if share is None else f": {abs(share):.0%} {'less' if share >= 0 else 'more'} CO2e than at once"
        known = "" if share is None else f" ({row['saved_source']})"
        yield f"{row['run_id'][:8]} {' and '.join(done)} for cleaner electricity{change}{known}"


def query_of_runs(
    order: str, target: float | None, asked: dict[str, Any], limit: int, everything: bool
) -> tuple[str, list[Any]]:
    """The runs asked for, `limit` of each data set and split, and what the page says about the rest."""
    runs, values = chosen("leaderboard", **asked)
    plain, more_values = chosen("runs", **asked)  # a tenth of the leaderboard's time
    finished = "true" if everything else f"not {UNFINISHED}"
    reached = "(select run_id, energy_kwh as energy_to_acc_kwh from energy_to_accuracy(?))"
    joined = "" if target is None else f"left join {reached} as reached using (run_id)"
    sql = f"""
        with chosen as ({runs}),
        repeats as (
            select count(*) as num_runs
            from ({plain})
            where {finished} and group_hash is not null
            group by contest, group_hash
            having count(*) > 1
        )
        select
            chosen.*,
            {"" if target is None else "reached.energy_to_acc_kwh,"}
            count(*) over own as _in_contest,
            (select sum(num_runs)::integer from repeats) as _num_repeats,
            (select count(*) from repeats) as _num_repeated,
            min(dataset) over own as _dataset,
            {COUNTS},
            row_number() over (own order by {order}, started_at desc, run_id) as _place
        from chosen {joined}
        where {finished}
        window own as (partition by contest)
        qualify _place <= ?
        order by _dataset, contest, _place
    """
    return sql, [*values, *more_values, *([] if target is None else [target]), limit]


def query_of_groups(order: str, asked: dict[str, Any], limit: int, everything: bool) -> tuple[str, list[Any]]:
    """The same of groups. A group is asked for where any of its runs has the tag."""
    groups, values = chosen("leaderboard_groups", **asked, key="run_ids")
    sql = f"""
        with chosen as ({groups})
        select
            *,
            list_has_any(run_ids, (select list(run_id) from runs where kind = 'import')) as _is_imported,
            (select config from runs where runs.run_id = chosen.run_ids[1]) as _config,
            count(*) over own as _in_contest,
            min(dataset) over own as _dataset,
            {COUNTS},
            row_number() over (own order by {order}, started_at desc, run_ids) as _place
        from chosen
        where {"true" if everything else "num_unfinished < num_runs"}
        window own as (partition by contest)
        qualify _place <= ?
        order by _dataset, contest, _place
    """
    return sql, [*values, limit]


def parse_keys(keys: list[str], known: dict[str, str]) -> tuple[str, float | None]:
    """`--by` -> an `order by`, and the validation accuracy that `energy-to-acc` names, as a fraction."""
    order, target = [], None
    for key in keys:
        name, has_value, value = key.lower().replace("_", "-").partition("=")
        if name not in known or bool(has_value) != (name == "energy-to-acc"):
            names = ", ".join(f"{key}=85" if key == "energy-to-acc" else key for key in known)
            example = f"`{name}=85` is 85 %" if name == "energy-to-acc" and name in known else f"the keys are {names}"
            hint = example if name in ORDER else nearest(name, known, otherwise=example)
            raise UsageError(f"cannot sort by `{key}`", hint=hint)
        if has_value:
            if target is not None:
                raise UsageError("`energy-to-acc` was given twice", hint="give one target")
            target = parse_target(value)
        order.append(known[name])
    return ", ".join(order), target


def parse_target(text: str) -> float:
    """Up to 1 is a fraction, above it per cent."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise UsageError(f"`{text}` is no accuracy", hint="85 and 0.85 both mean 85 %")
    return number if number <= 1 else number / 100


def public(row: Row) -> Row:
    """Without what only the screen needs."""
    return {key: value for key, value in row.items() if not key.startswith("_")}


def write_csv(path: Path, rows: list[Row], noun: str) -> None:
    """Rows of a view; refused in two lines where the file cannot be written."""
    try:
        exchange.write_csv(path, console.plain(rows))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint="choose another file") from error
    console.say(f"{len(rows):,} {noun} are in {path}")


def keep_drawing(draw: Any) -> None:
    """The page, again and again; Ctrl-C is the way out, and no error."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console.out(), auto_refresh=False) as live:
        try:
            while True:
                tables, notes = draw()
                live.update(Group(*tables, *(Text(console.clean(note), style="dim") for note in notes)), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def page(rows: list[Row], shown: Callable[[str], list[Column]]) -> tuple[list[Table], list[str]]:
    """A table for each contest, its columns by what it is judged by, and what is to be said about them all."""
    contests = [list(group) for _, group in itertools.groupby(rows, lambda row: row["contest"])]
    titles = titles_of([group[0] | {"dataset": group[0]["_dataset"]} for group in contests])
    tables, notes = [], []
    for group, title in zip(contests, titles, strict=True):
        first = group[0]
        if first["metric"] != "accuracy":
            notes.append(f"– {first['metric']} is sorted, not ranked: only accuracy is ranked per kWh")
        tables.append(console.table(shown(first["metric"]), group, title=title))
        if more := first["_in_contest"] - len(group):
            notes.append(f"{more:,} more on {title}: --limit")
    sources = {row["source"] for row in rows}
    return tables, notes + console.legends(sources)


def reached(metric: str, value: str, accuracy: str) -> Column:
    """What a row is judged by: a percentage, or a figure in its own unit."""
    if metric == "accuracy":
        return Column("acc. %", lambda row: percentage(row[accuracy]))
    return Column(metric, lambda row: figure(row[value]), shrinks=True)


def named(row: Row) -> str:
    """The model, and how it was compressed."""
    return f"{row['model']}, {row['method']}" if row["method"] else str(row["model"])


def columns(metric: str, target: float | None) -> list[Column]:
    """What the board shows of a run."""
    has_accuracy = metric == "accuracy"
    to_target = Column(f"Wh to {100 * (target or 0):g} %", lambda row: energy(row["energy_to_acc_kwh"], row["source"]))
    return [
        Column("#", lambda row: str(row["rank"] or UNKNOWN)),
        Column("", lambda row: "●" if row["on_front"] else ""),
        Column("model", named, right=False, shrinks=True),
        Column("name", lambda row: row["name"] or "", right=False, wide=True, shrinks=True),
        Column("run", lambda row: row["run_id"][:8], right=False, wide=True),
        Column("prec.", lambda row: row["precision"] or UNKNOWN, right=False),
        Column("ep.", lambda row: str(row["epochs"])),
        *([Column("val %", lambda row: percentage(row["val_accuracy"]), wide=True)] if has_accuracy else []),
        reached(metric, "value", "accuracy"),
        *([to_target] if target and has_accuracy else []),
        Column("Wh", lambda row: energy(row["energy_kwh"], row["source"], row["known_kwh"])),
        Column("g CO2e", lambda row: figure(row["co2_g"])),
        Column("time", lambda row: UNKNOWN if row["duration_s"] is None else format_duration(row["duration_s"])),
        *([Column("acc/kWh", lambda row: figure(row["acc_per_kwh"] if row["rank"] else None))] if has_accuracy else []),
    ]


def group_columns(metric: str) -> list[Column]:
    """What the board shows of a group of repeats."""
    has_accuracy = metric == "accuracy"
    return [
        Column("#", lambda row: str(row["rank"] or UNKNOWN)),
        Column("model", named, right=False, shrinks=True),
        Column("prec.", lambda row: row["precision"] or UNKNOWN, right=False),
        Column("seeds", lambda row: ", ".join(map(str, row["seeds"])), right=False, wide=True, shrinks=True),
        Column("ep.", lambda row: str(row["max_epochs"]), wide=True),
        Column("n", lambda row: str(row["num_ranked"])),
        reached(metric, "mean_value", "mean_accuracy"),
        *([Column("±", lambda row: percentage(row["std_accuracy"]))] if has_accuracy else []),
        Column("Wh", lambda row: energy(row["mean_energy_kwh"], row["source"], row["mean_unranked_kwh"])),
        Column("±", lambda row: energy(row["std_energy_kwh"], "", digits=2)),
        Column("g CO2e", lambda row: figure(row["mean_co2_g"])),
        Column("±", lambda row: figure(row["std_co2_g"], digits=2), wide=True),
        Column(
            "time", lambda row: UNKNOWN if row["mean_duration_s"] is None else format_duration(row["mean_duration_s"])
        ),
        *([Column("acc/kWh", lambda row: figure(row["acc_per_kwh"]))] if has_accuracy else []),
    ]


def energy(kwh: float | None, source: str, known_kwh: float | None = None, *, digits: int = 3) -> str:
    """Watt-hours with the mark of their source: of an incomplete sum, the part that is known."""
    shown = known_kwh if kwh is None else kwh
    mark = SOURCES.get(source, ("", ""))[0]
    return UNKNOWN if shown is None else mark + figure(shown * JOULES_PER_KWH / JOULES_PER_WH, digits)


def about_runs(rows: list[Row]) -> list[str]:
    """What the table of runs leaves open: the mark of the front, why runs have no rank, and where there are repeats."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["unranked"]:
            reasons.setdefault(row["unranked"], []).append(f"{row['model']} {row['run_id'][:8]}")
    notes = [FRONT] if any(row["on_front"] for row in rows) else []
    notes += [f"– unranked, {reason}: {some(runs)}" for reason, runs in reasons.items()]
    if any(row["kind"] == "compress" for row in rows):
        notes.append(INHERITS)
    trainings = [row for row in rows if row["kind"] not in ("calibrate", "compress", "sweep")]
    if mostly_setup := [f"{row['model']} {row['run_id'][:8]}" for row in trainings if (row["setup_share"] or 0) > 0.5]:
        notes.append(f"set-up took more than half of the energy of {some(mostly_setup)}: longer runs say more")
    notes += on_their_word(
        [f"{row['model']} {row['run_id'][:8]}" for row in rows if row["kind"] == "import" and row["rank"]]
    )
    if rows and (repeats := rows[0]["_num_repeats"]):
        configs = rows[0]["_num_repeated"]
        of = "one config" if configs == 1 else f"{configs:,} configs"
        notes.append(f"{repeats:,} runs are repeats of {of}: --grouped shows mean and spread")
    return notes


def on_their_word(names: list[str]) -> list[str]:
    """Of ranked runs that were imported."""
    return [f"accuracy and data of imported runs are on their importer's word: {some(names)}"] if names else []


def some(names: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def about_groups(rows: list[Row]) -> list[str]:
    """What ± means, and how many runs the means leave out."""
    notes = [SPREAD] if any(row["num_ranked"] for row in rows) else []
    notes += [INHERITS] if any(row["method"] for row in rows) else []
    notes += [UNRANKED] if any(row["mean_unranked_kwh"] is not None for row in rows) else []
    if unranked := sum(row["num_unranked"] for row in rows):
        does = "is unranked and does" if unranked == 1 else "are unranked and do"
        notes.append(f"{counted(unranked, 'run')} of these groups {does} not count: `greenml board --all` says why")
    return notes + on_their_word(
        [f"{row['model']} {row['run_ids'][0][:8]}" for row in rows if row["_is_imported"] and row["rank"]]
    )


def apart(rows: list[Row]) -> list[str]:
    """What tells groups apart that look alike on the page, a line for each model and precision that comes twice."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["rank"] and isinstance(row["_config"], dict):  # files from elsewhere hold what they hold
            alike.setdefault((row["contest"], row["model"], row["precision"] or UNKNOWN), []).append(row)
    notes = []
    for (_, model, precision), group in alike.items():
        first = group[0]["_config"]
        keys = [key for key in first if key not in SAID and any(row["_config"].get(key) != first[key] for row in group)]
        more = f", and {len(keys) - MANY} more keys" if len(keys) > MANY else ""
        each = [
            f"#{row['rank']} " + ", ".join(f"{key} {row['_config'].get(key)}" for key in keys[:MANY]) for row in group
        ]
        notes += [f"{model} {precision}: {'; '.join(each)}{more}"] if keys else []
    return notes


def left_out(db: Store, rows: list[Row], everything: bool) -> list[str]:
    """What is not on the page, and how to get there."""
    counts = next(iter(rows or db.rows(f"select {COUNTS}")), {"_num_runs": 0, "_num_unfinished": 0})
    notes = []
    if not counts["_num_runs"]:
        notes += [f"no runs yet in {db.path}", FIRST_RUN]
    elif not rows:
        notes.append("no finished run matches")
    if counts["_num_unfinished"] and not everything:
        notes.append(f"{counts['_num_unfinished']} running, crashed or failed: --all shows them")
    if waiting := db.spooled():
        notes.append(f"{waiting} rows wait beside the store; the next training stores them")
    return notes
