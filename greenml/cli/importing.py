"""`greenml import`: what other programs measured, into the store, beside own runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, exchange
from greenml.cli.board import energy, parse_target
from greenml.cli.options import (
    LIMIT,
    JsonOption,
    StoreOption,
    TagsOption,
)
from greenml.cli.share import said as say_merged
from greenml.console import Column, counted, figure
from greenml.errors import DataError, GreenMLError, UsageError
from greenml.exchange import metrics as tables
from greenml.goals import goal_of, parse
from greenml.records import Metric, Phase, Run, Source, total
from greenml.units import co2_g, kwh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.exchange import File, Said
    from greenml.exchange.foreign import Foreign
    from greenml.exchange.metrics import Figure, Told
    from greenml.records import Stored
    from greenml.store import Store

    Row = dict[str, Any]

MOST_NAMED = 10
MOST_NOTES = 3
OVER = "status not in ('running', 'waiting')"
"""Runs that a merge takes; others are alive."""
AS_RECORDED = "its runs come as they were recorded: leave it out"
INSTEAD = {
    "--tag": "leave it out; `greenml runs tag RUN TAG` tags them when they are here",
    "--run": "`greenml runs export -o FILE.jsonl RUN`, where it comes from, writes that run alone",
}
"""What to do instead of a flag that is for other programs' files."""
COLUMNS = [
    Column("file", lambda row: row["file"], right=False, shrinks=True),
    Column("kind", lambda row: row["kind"], right=False, shrinks=True),
    Column("rows", lambda row: f"{row['rows']:,}", wide=True),
    Column("runs", lambda row: f"{len(row['runs']):,}"),
    Column("Wh", lambda row: energy(of_all(row, "energy_kwh"), worst(row), of_all(row, "known_kwh"))),
    Column("g CO2e", lambda row: figure(of_all(row, "co2_g"))),
    Column("columns", lambda row: row["columns"] or "", right=False),
    Column("here", lambda row: states(row["runs"]), right=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A foreign run, ready to be stored, and what the store has of it."""

    run: Foreign
    said: Said
    records: list[Stored]
    state: str
    """`new`, `grown`, `said anew`, `known`, `shorter` than what is here, or `removed`."""

    @property
    def comes_in(self) -> bool:
        return self.state in ("new", "grown", "said anew")


def import_runs(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or folders of such.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="What was trained. [the project's name in the file]")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="On what. [unknown]")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", "--country", metavar="CODE", help="Whose grid, with greenml's factor. [as in the file]"
        ),
    ] = None,
    season: Annotated[str | None, typer.Option("--season", metavar="TEXT", help="As summer. [unknown]")] = None,
    tag: TagsOption = None,
    accuracy: Annotated[
        str | None, typer.Option("--accuracy", metavar="ACC", help="On the test split: 0.85, or 85 for 85 %.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME=VALUE[:max|min]", help="What it is judged by instead, as mae=3.2."),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option("--metrics", metavar="FILE", help="CSV or JSON: model, country, season, run, and figures."),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", min=2, metavar="N", help="So that chance is known.")
    ] = None,
    num_test: Annotated[
        int | None, typer.Option("--num-test", min=1, metavar="N", help="Samples in the test split.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="RUN", help="Same data and split as this run: they are compared.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Only the run of a file whose id there begins so.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="HOW", help="Rows are cumulative or per-row. [as the file shows]")
    ] = None,
    pue: Annotated[
        float | None, typer.Option("--pue", min=1.0, metavar="X", help="In its energy, where the file does not say.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come in; store nothing.")] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Bring in what CodeCarbon, carbontracker or other stores have."""
    from greenml import grid
    from greenml.store import Store, resolve_path

    if columns not in (None, "cumulative", "per-row"):
        raise UsageError(f"--columns {columns}: no such way", hint="cumulative or per-row")
    if region:
        grid.resolve(region)
    db = Store(resolve_path(store))
    said = exchange.Said(
        model=model,
        region=region,
        season=season,
        tags=tuple(tag or ()),
        accuracy=None if accuracy is None else parse_target(accuracy),
        num_classes=num_classes,
        num_test=num_test,
        pue=pue,
        **judged(metric, accuracy),
        **shared_with(db, like, dataset),
    )
    flags = {
        "--model": model,
        "--dataset": dataset,
        "--region": region,
        "--season": season,
        "--tag": tag,
        "--accuracy": accuracy,
        "--metric": metric,
        "--metrics": metrics,
        "--num-classes": num_classes,
        "--num-test": num_test,
        "--like": like,
        "--run": run,
        "--columns": columns,
        "--pue": pue,
    }
    given = [flag for flag, value in flags.items() if value not in (None, [])]
    files = exchange.survey(paths, exchange.Options(columns=columns, pue=pue, region=region))
    files = [refused_with(file, given) for file in files if not is_here(file, db)]
    if len(files) == 1 and files[0].trouble:
        raise files[0].trouble
    found = [one for one in exchange.unique(files) if run is None or (one.label or "").startswith(run)]
    if run and not found:
        raise UsageError(f"no run there begins with `{run}`", hint="--dry-run --json shows what there is")
    refuse_one_for_all(found, said)
    told, spoilt = told_beside(found, metrics, alone=len(files) == 1)
    files += spoilt
    brought = prepared(db, found, said, told)
    refuse_without_data(brought, said)
    if not dry_run and any(one.comes_in for one in brought):
        db.check()
        db.replace([record for one in brought if one.comes_in for record in one.records])
    exports, troubles = own_exports(files, db, dry_run=dry_run)
    rows = [*shown(files, brought), *exports]
    if json:
        console.print_json(rows)
    elif rows:
        console.out().print(console.table(COLUMNS, rows[:LIMIT]))
        explain(rows, brought, dry_run=dry_run)
    refuse_the_rest(files, troubles)


def judged(metric: str | None, accuracy: str | None) -> Row:
    """`mae=3.2:min` -> metric, value and goal."""
    if metric is None:
        return {}
    written, equals, rest = metric.partition("=")
    name = parse(written).base
    text, _, goal = rest.partition(":")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not name or not equals or not math.isfinite(value) or goal not in ("", "max", "min"):
        raise UsageError(f"--metric {metric}: not NAME=VALUE or NAME=VALUE:min", hint="as in --metric mae=3.2:min")
    if name == "accuracy" or accuracy is not None:
        raise UsageError("a run is judged by one thing", hint="--accuracy 0.9, or --metric NAME=VALUE of another name")
    goal = goal or goal_of(name) or ""
    if not goal:
        raise UsageError(f"is more {name} better, or less?", hint=f"--metric {metric}:max or {metric}:min")
    return {"metric": name, "value": value, "goal": goal}


def shared_with(db: Store, like: str | None, dataset: str | None) -> Row:
    """The user's word that it is the data and the split of another run."""
    if like is None:
        return {"dataset": dataset}
    run_id = db.run_id(like)
    [row] = db.rows(f"select {', '.join(exchange.LIKE)} from runs where run_id = ?", [run_id])
    if dataset not in (None, row["dataset"]):
        raise UsageError(f"run {run_id} is on {row['dataset']}, not {dataset}", hint="leave out --dataset or --like")
    return {"dataset": row["dataset"], "like": run_id, "shared": row}


def is_here(file: File, db: Store) -> bool:
    """Whether a file is the store itself."""
    return bool(file.export) and db.path.exists() and db.path.samefile(file.path)


def refused_with(file: File, flags: Sequence[str]) -> File:
    """The same, or trouble: what greenml exported is a record, of which nothing is said at an import."""
    if not file.export or not flags:
        return file
    what = f"{file.path} is greenml's own: {flags[0]} is for files of other programs"
    return exchange.File(path=file.path, trouble=UsageError(what, hint=INSTEAD.get(flags[0], AS_RECORDED)))


def refuse_one_for_all(found: Sequence[Foreign], said: Said) -> None:
    """What one run reached says nothing about others, nor anything where nobody says on what data."""
    if said.accuracy is None and said.metric is None:
        return
    flag = "--metric" if said.metric else "--accuracy"
    if len(found) != 1:
        raise UsageError(
            f"{flag} is of one run, and there are {len(found)}", hint="--run ID picks one, --metrics FILE tells all"
        )


def refuse_without_data(brought: Sequence[Brought], said: Said) -> None:
    """Runs on who knows what cannot be compared; what was said at an earlier import counts."""
    if (said.accuracy is not None or said.metric) and any(one.said.dataset is None for one in brought):
        flag = "--metric" if said.metric else "--accuracy"
        raise UsageError(f"{flag} on what data?", hint="--like RUN, or --dataset NAME")


def told_beside(
    found: Sequence[Foreign], file: Path | None, *, alone: bool
) -> tuple[list[tuple[Path, Told]], list[File]]:
    """The figures of `--metrics`, or of `metrics.json` and `RUN_metrics.json` beside the files, and which are spoilt.

    Raises DataError for a spoilt one where all else is one file.
    """
    if file:
        if not file.exists():
            raise UsageError(f"--metrics {file} does not exist", hint="name a CSV or JSON of figures")
        return [(file, row) for row in tables.read(file)], []
    places = [run.path.with_name(name) for run in found for name in ("metrics.json", f"{run.name}_metrics.json")]
    told, spoilt = [], []
    for place in filter(Path.exists, dict.fromkeys(places)):
        try:
            told += [(place, row) for row in tables.read(place)]
        except DataError as trouble:
            if alone:
                raise
            spoilt.append(exchange.File(path=place, trouble=trouble))
    return told, spoilt


def prepared(db: Store, found: Sequence[Foreign], said: Said, told: Sequence[tuple[Path, Told]]) -> list[Brought]:
    """The records of every run, and what the store has of it already: figures hold until others are told."""
    here = stored(db, [run.run_id for run in found])
    used: set[int] = set()
    brought = []
    for read in found:
        before = here.get(read.run_id)
        own = said.over(before["config"].get("said", {}) if before else {})
        run = read.under(own.pue)
        figures, rows = figures_of(run, own, told, alone=len(found) == 1)
        used |= {id(row) for row in rows}
        if before and not figures:
            figures = before["figures"]
        records = exchange.to_records(run, own, figures)
        brought.append(Brought(run=run, said=own, records=records, state=state_of(run, records, before)))
    for path, row in told:
        if id(row) not in used:
            keys = ", ".join(f"{key} {value}" for key, value in row.keys.items()) or "a row without model or run"
            console.say(f"{path}: {keys}: fits no run here")
    return brought


def stored(db: Store, run_ids: Sequence[str]) -> dict[str, Row]:
    """What the store has of these runs, and their `figures`."""
    rows = db.rows(
        """
        select
            run_id,
            config,
            metric,
            goal,
            value,
            test_accuracy,
            removed_at is not null as is_removed,
            duration_s
        from run_rows
        left join totals using (run_key)
        where run_id in (select unnest(?))
        """,
        [run_ids],
    )
    here = {row["run_id"]: row | {"figures": []} for row in rows}
    figures = """
        select run_id, metric_rows.name, metric_rows.value, metric_rows.goal
        from metric_rows
        join run_rows using (run_key)
        where run_id in (select unnest(?))
        order by run_key, segment, seq
    """
    for row in db.rows(figures, [run_ids]):
        here[row["run_id"]]["figures"].append((row["name"], row["value"], row["goal"]))
    return here


def figures_of(
    run: Foreign, said: Said, told: Sequence[tuple[Path, Told]], *, alone: bool
) -> tuple[list[Figure], list[Told]]:
    """The figures of this run. Those without a key are of the only run, or of the one that their file is named for."""
    own_file = f"{run.name}_metrics.json"
    rows = [row for path, row in told if (row.keys or alone or path == run.path.with_name(own_file))]
    return tables.joined(run, said, rows)


def state_of(run: Foreign, records: Sequence[Stored], before: Row | None) -> str:
    """What the store has of a run, next to what would come in."""
    if before is None:
        return "new"
    if before["is_removed"]:
        return "removed"
    if run.duration_s > before["duration_s"] + 1e-3:
        return "grown"
    if run.duration_s < before["duration_s"] - 1e-3:
        return "shorter"
    began = next(record for record in records if isinstance(record, Run))
    end = records[-1]
    same = (
        began.config["said"] == before["config"].get("said")
        and all(getattr(end, name, None) == before[name] for name in ("metric", "goal", "value", "test_accuracy"))
        and {(row.name, row.value, row.goal) for row in records if isinstance(row, Metric)} == set(before["figures"])
        and began.config["import"]["columns"] == before["config"]["import"]["columns"]
    )
    return "known" if same else "said anew"


def shown(files: Sequence[File], brought: Sequence[Brought]) -> list[Row]:
    """A row for each file that was read."""
    ready = {one.run.run_id: one for one in brought}
    return [
        {
            "file": str(file.path),
            "kind": file.reading.kind,
            "rows": sum(run.rows for run in file.runs),
            "columns": file.reading.columns,
            "why": file.reading.why,
            "runs": [facts(ready[run.run_id]) for run in file.runs if run.run_id in ready],
        }
        for file in files
        if file.reading and any(run.run_id in ready for run in file.runs)
    ]


def facts(one: Brought) -> Row:
    """What would be stored of a run, under the names of the view."""
    began = next(record for record in one.records if isinstance(record, Run))
    joules = one.run.joules
    factor = began.intensity
    return {
        "run_id": one.run.run_id,
        "label": one.run.label,
        "name": began.name,
        "model": began.model,
        "dataset": began.dataset,
        "country": factor.country,
        "season": began.season,
        "duration_s": one.run.duration_s,
        "energy_kwh": None if joules is None else kwh(joules),
        "known_kwh": kwh(one.run.known_j),
        "co2_g": None if joules is None else co2_g(joules, factor.g_per_kwh, factor.pue),
        "source": str(Source.worst([record.source for record in one.records if isinstance(record, Phase)])),
        "pue": factor.pue,
        "intensity_g_per_kwh": factor.g_per_kwh,
        "intensity_level": factor.level,
        "intensity_note": factor.note,
        "state": one.state,
    }


def own_exports(files: Sequence[File], db: Store, *, dry_run: bool) -> tuple[list[Row], list[GreenMLError]]:
    """Bring in what greenml exported, or show what would come; what is wrong with one is no matter of the others."""
    rows, troubles = [], []
    for file in files:
        if not file.export:
            continue
        try:
            rows.append(own_export(file.path, file.export, db, dry_run=dry_run))
        except GreenMLError as trouble:
            if len(files) == 1:
                raise
            troubles.append(trouble)
    return rows, troubles


def own_export(path: Path, export: str, db: Store, *, dry_run: bool) -> Row:
    """A row for an export of greenml, which is brought in unless it is only shown."""
    with exchange.opened(path, export) as (source, unended):
        listing = source.rows(f"from leaderboard where {OVER} order by started_at, run_id")
        [phases] = source.rows(f"select count(*) as num from phase_rows join runs using (run_key) where {OVER}")
        known = {row["run_id"] for row in db.rows("select run_id from run_rows")}
        if not dry_run:
            say_merged(db.merge(source), path)
    for run_id in unended:
        console.say(f"skipped {run_id}: it had not ended when it was exported; export it again")
    keys = ("run_id", "name", "model", "dataset", "country", "season", "duration_s", "energy_kwh", "known_kwh")
    return {
        "file": str(path),
        "kind": export,
        "rows": phases["num"],
        "columns": None,
        "why": "records of greenml, with nothing to be guessed",
        "runs": [
            {key: row[key] for key in (*keys, "co2_g", "source")}
            | {"state": "known" if row["run_id"] in known else "new"}
            for row in listing
        ],
    }


def of_all(row: Row, name: str) -> float | None:
    """The total over the runs of a file; None where one of them is unknown."""
    return total(*(run[name] for run in row["runs"]))


def worst(row: Row) -> str:
    return str(Source.worst([Source(run["source"]) for run in row["runs"]])) if row["runs"] else ""


def states(runs: Sequence[Row]) -> str:
    """ "2 new, 1 known"."""
    counts = Counter(run["state"] for run in runs)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{number} {state}" for state, number in counts.items())


def explain(rows: Sequence[Row], brought: Sequence[Brought], *, dry_run: bool) -> None:
    """What the table leaves open: how each kind of file was read, whose grid, and what is in the store now."""
    if len(rows) > LIMIT:
        console.say(f"{len(rows) - LIMIT:,} more files: --json")
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row["why"], []).append(Path(row["file"]).name)
    for why, names in by_reason.items():
        console.say(f"{names[0] if len(names) == 1 else counted(len(names), 'file')}: {why}")
    notes = Counter(run["intensity_note"] for row in rows for run in row["runs"] if "intensity_note" in run)
    for note, number in notes.most_common(MOST_NOTES):
        console.say(note if len(notes) == 1 else f"{counted(number, 'run')}: {note}")
    if len(notes) > MOST_NOTES:
        console.say(f"and {counted(len(notes) - MOST_NOTES, 'other factor')}: --json")
    if any(run.get("intensity_level") == "file" for row in rows for run in row["runs"]):
        console.say("--region CODE takes greenml's own factor instead")
    for state, what in (
        ("shorter", "an older copy of what is here; the store keeps the longer"),
        ("removed", "removed here; `greenml runs restore` brings it back"),
    ):
        if names := [one.run.run_id for one in brought if one.state == state]:
            console.say(f"{counted(len(names), 'run')} ({', '.join(names[:3])}): {what}")
    if dry_run:
        console.say("nothing is stored")
    elif brought:
        num = sum(one.comes_in for one in brought)
        known = f", {len(brought) - num:,} as known" if num < len(brought) else ""
        console.say(f"{counted(num, 'run')} stored{known}; greenml board ranks them, greenml runs show RUN tells more")


def refuse_the_rest(files: Sequence[File], more: Sequence[GreenMLError]) -> None:
    """Name what was left out. What lies in a folder and is nothing of ours is no error, what is spoilt is one."""
    foreign = [str(file.path) for file in files if file.is_foreign]
    if foreign:
        rest = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        console.say(f"left alone, as nothing that greenml imports: {', '.join(foreign[:MOST_NAMED])}{rest}")
    spoilt = [*(file.trouble for file in files if file.trouble and not file.is_foreign), *more]
    for trouble in spoilt:
        console.say(f"skipped {trouble}")
        console.say(f"  hint: {trouble.hint}")
    if spoilt:
        raise DataError(
            f"{counted(len(spoilt), 'file')} of {len(files)} could not be imported",
            hint="the others were; mend these, and import again: nothing is doubled",
        )
