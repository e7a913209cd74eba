"""`greenml grid audit`: which run was judged by which policy, rule by rule, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.options import JsonOption, StoreOption
from greenml.console import UNKNOWN, Column, counted, figure, local
from greenml.errors import StoreError, UsageError
from greenml.units import kwh

if TYPE_CHECKING:
    Row = dict[str, Any]

EXAMPLES = """\
\b
Examples:
  greenml grid audit                     what the policy of this machine said of runs
  greenml grid audit --since 2026-11-01  from that day on
  greenml grid audit --last 5 --all      the newest five runs, also those without a policy
  greenml grid audit --csv audit.csv     for whoever wants to see it
"""
MARKS = {"kept": "kept", "broken": "BROKEN", "unknown": "unknown"}
CHOSEN = """
    with chosen as (
        from audit
        where (policy is not null or $1) and ($2::timestamp is null or decided_at >= $2::timestamp)
    ),
    newest as (
        select run_id
        from chosen
        group by run_id
        order by max(decided_at) desc, run_id
        limit $3
    )
    from chosen
    where run_id in (from newest)
    order by decided_at, run_id, outcome, rule
"""


def audit(
    everything: Annotated[
        bool, typer.Option("--all", help="Also runs of a time in which no policy held.", show_default=False)
    ] = False,
    last: Annotated[
        int | None, typer.Option("--last", min=1, metavar="N", help="Only the newest N of these runs.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="2026-11-23, or with a time: from then on.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows to FILE instead.")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """What policies said of runs: which rule, its limit, what was held against it, and what came of it.

    Runs that were refused are among them; a judgement that says the same as the one before is no row of its own.
    """
    from greenml.store import Store, resolve_path

    if json and csv_file:
        raise UsageError("--json and --csv: both say where the rows go", hint="leave one of them out")
    db = Store(resolve_path(store))
    rows = db.rows(CHOSEN, [everything, _moment(since), last or 2**62])
    if json:
        console.print_json(rows)
    elif csv_file:
        _write(csv_file, rows)
    elif rows:
        console.out().print(console.table(COLUMNS, _shown(rows)))
        console.say(_summed_up(rows))
    else:
        console.say(f"no policy was asked in {db.path}")
        console.say("hint: greenml train cnn --dataset digits --policy policy.yaml")


def _shown(rows: list[Row]) -> list[Row]:
    """Rows whose run and moment are said once."""
    said: tuple[Any, ...] = ()
    shown = []
    for row in rows:
        judgement = (row["run_id"], row["decided_at"], row["outcome"])
        shown.append(row | {"goes_on": judgement == said})
        said = judgement
    return shown


def _once(text: str, row: Row) -> str:
    return "" if row["goes_on"] else text


def _figures(row: Row) -> tuple[str, str]:
    """The limit, and with its unit what was held against it, as people read them; never alike where they are not."""
    unit = {"J": "kWh", "g": "g", "g/kWh": "g/kWh"}.get(row["unit"])
    if unit is None:
        return row["limit"] or UNKNOWN, row["value"] or UNKNOWN
    numbers = [None if row[key] is None else float(row[key]) for key in ("limit", "value")]
    if unit == "kWh":
        numbers = [None if joules is None else kwh(joules) for joules in numbers]
    for digits in (4, 12):
        limit, value = (figure(number, digits) for number in numbers)
        if limit != value or numbers[0] == numbers[1]:
            break
    return limit, f"{value} {unit}"


def _summed_up(rows: list[Row]) -> str:
    """How many runs, and what came of them."""
    runs = {row["run_id"] for row in rows}
    parts = [f"{counted(len(runs), 'run')} in {counted(len(rows), 'row')}"]
    for outcome, words in (("refused", "refused"), ("waited", "held up")):
        if number := len({row["run_id"] for row in rows if row["outcome"] == outcome}):
            parts.append(f"{number} {words}")
    return ", ".join(parts)


def _write(file: Path, rows: list[Row]) -> None:
    from greenml import exchange

    try:
        exchange.write_csv(file, [console.plain(row) for row in rows], AUDIT_COLUMNS)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}", hint="choose another file") from error
    console.say(f"{counted(len(rows), 'row')} in {file}")


def _moment(text: str | None) -> datetime | None:
    """A day or a moment as typed, which without an offset is this machine's -> naive UTC."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    except ValueError:
        raise UsageError(f"--since {text}: no day", hint="as in 2026-11-23, or 2026-11-23T08:00") from None


AUDIT_COLUMNS = (
    "run_id", "decided_at", "command", "policy", "rule", "limit", "value", "unit", "status", "words", "outcome",
)  # fmt: skip
COLUMNS = (
    Column("run", lambda row: _once(row["run_id"][:8], row), right=False),
    Column("when", lambda row: _once(local(row["decided_at"]), row), right=False),
    Column("command", lambda row: _once(row["command"], row), right=False, wide=True),
    Column("policy", lambda row: _once(row["policy"] or "no policy", row), right=False, wide=True, shrinks=True),
    Column("rule", lambda row: (row["rule"] or "").replace("budget_per_week", "week"), right=False),
    Column("limit", lambda row: _figures(row)[0], shrinks=True),
    Column("value", lambda row: _figures(row)[1]),
    Column("", lambda row: MARKS.get(row["status"], "no policy"), right=False),
    Column("outcome", lambda row: _once(row["outcome"], row), right=False),
)
