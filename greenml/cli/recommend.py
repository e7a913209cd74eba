"""`greenml recommend`: what to run instead, and why. SQL chooses, greenml.recommend words it; what is here prints."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, units
from greenml.cli import beststart
from greenml.cli.board import energy, parse_target
from greenml.cli.options import EVERYTHING, FIRST_RUN, LIMIT, DatasetOption, JsonOption, StoreOption, flag
from greenml.console import UNKNOWN, Column, figure, percentage
from greenml.errors import UsageError
from greenml.grid import series
from greenml.units import format_duration

if TYPE_CHECKING:
    from greenml.recommend import Advice
    from greenml.store import Store

    Row = dict[str, Any]

RUNNERS_UP, NUM_CONTESTS = 3, 5


def recommend(
    dataset: DatasetOption = None,
    target_acc: Annotated[
        str | None,
        typer.Option("--target-acc", metavar="ACC", help="The cheapest that reached it: 85, or 0.85, is 85 %."),
    ] = None,
    max_co2: Annotated[
        str | None, typer.Option("--max-co2", metavar="MASS", help="The most accurate within 20g, 0.5kg.")
    ] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", metavar="TIME", help="The most accurate within 90s, 10m, 1.5h.")
    ] = None,
    tolerance: Annotated[
        str | None,
        flag(
            "--tolerance",
            metavar="POINTS",
            help="How many percentage points below the most accurate will do.",
            default="1; 0 with a limit",
        ),
    ] = None,
    low_carbon: Annotated[
        str | None,
        typer.Option("--low-carbon", metavar="MASS", help="List what stays under 20g, most accurate first, instead."),
    ] = None,
    limit: Annotated[
        int | None,
        flag("--limit", min=1, metavar="N", help="At most N runners-up, or rows.", default="3 runners-up, 20 rows"),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Also where the energy went, and what could be changed at which effect.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Say which model to run, for how many epochs, and why."""
    from greenml.recommend import Asked, advise
    from greenml.store import Store, resolve_path

    if low_carbon is not None and (target_acc, max_co2, tolerance) != (None, None, None):
        raise UsageError(
            "--low-carbon is itself the limit, and lists what keeps to it",
            hint="leave out --target-acc, --max-co2 and --tolerance, or use --max-co2 instead of it",
        )
    if target_acc is not None and tolerance is not None:
        raise UsageError(
            "--tolerance is about the most accurate, and --target-acc says how accurate", hint="give one of them"
        )
    if why and (json or low_carbon is not None):
        raise UsageError("--why goes with a recommendation, in words", hint="leave out --json and --low-carbon")
    lists_all = json or low_carbon is not None
    asked = Asked(
        dataset=dataset,
        target_accuracy=None if target_acc is None else parse_target(target_acc),
        max_co2_g=quantity("--max-co2", max_co2, units.GRAMS, "20g")
        or quantity("--low-carbon", low_carbon, units.GRAMS, "20g"),
        max_time_s=quantity("--max-time", max_time, units.SECONDS, "10m"),
        tolerance=None if tolerance is None else parse_tolerance(tolerance),
        num_runners_up=None if lists_all else limit or RUNNERS_UP,
        num_contests=EVERYTHING if lists_all else NUM_CONTESTS,
    )
    db = Store(resolve_path(store))
    advice = advise(db, asked)
    if json:
        found = [leaders(one) if low_carbon else with_start(db, one) for one in advice]
        console.print_json([row for rows in found for row in rows[: limit or EVERYTHING]])
        return
    if not advice:
        say_that_nothing_is_there(db, dataset)
    elif low_carbon:
        list_leaders(advice, low_carbon, limit or LIMIT)
    else:
        show(db, advice)
        if why:
            explain(db, advice)


def quantity(flag: str, text: str | None, known: dict[str, float], example: str) -> float | None:
    """ "20g" in the base unit. Raises UsageError."""
    if text is None:
        return None
    try:
        return units.parse_quantity(text, known)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}", hint=f"as in {flag} {example}") from None


def parse_tolerance(text: str) -> float:
    """Percentage points -> a fraction. Raises UsageError."""
    try:
        points = float(text.removesuffix("%"))
    except ValueError:
        points = -1.0
    if not 0 <= points < 100:
        raise UsageError(f"--tolerance: `{text}` is no number of percentage points", hint="as in --tolerance 1.5")
    return points / 100


def say_that_nothing_is_there(db: Store, dataset: str | None) -> None:
    """No runs, or none on the data set that was asked for."""
    if dataset is not None and db.rows("select 1 as one from runs limit 1"):
        console.say(f"no run on a data set like `{dataset}` counts: `greenml board --all` shows all runs")
        return
    console.say(f"no runs yet in {db.path}")
    console.say(FIRST_RUN)


def show(db: Store, advice: list[Advice]) -> None:
    """A block a contest: the answer on stdout, what is said about it on stderr."""
    looked_at = [one for one in advice if not one.was_left_out]
    for i, one in enumerate(looked_at):
        if i:
            print()
        show_one(db, one, several=len(looked_at) > 1)
    if rest := [one.title for one in advice if one.was_left_out]:
        named = ", ".join(rest[:5]) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")
        console.say(f"not looked at, as they are older: {named}; --dataset asks for them")


def explain(db: Store, advice: list[Advice]) -> None:
    """Why, for each contest that was looked at."""
    from greenml.recommend import explain as explaining
    from greenml.recommend.reasons import reasons

    looked_at = [one for one in advice if not one.was_left_out]
    for one in looked_at:
        if len(looked_at) > 1:
            print()
            tell(f"Why, on {one.title}:")
        explaining.show(reasons(db, one))


def show_one(db: Store, advice: Advice, *, several: bool) -> None:
    if several:
        tell(f"{advice.title}:")
    (tell if advice.is_answer else console.say)(advice.sentence)
    now = series.now()
    if start := beststart.find(db, advice, now):
        tell(start.in_words(now))
    if advice.command:
        print(f"\n  {console.clean(advice.command)}")
    if advice.runners_up:
        print(end="\n" * advice.is_answer)
        tell("Runners-up:")
        for line in advice.runners_up:
            tell(line, indent="  ")
    for line in advice.evidence:
        console.say(line)
    if advice.next_reason:
        console.say(f"next: {advice.next_reason}")
        console.say(f"  {advice.next_command}")


def with_start(db: Store, advice: Advice) -> list[Row]:
    """The rows of the macro, the recommended one with its `best_start`; none where no run is ranked."""
    start = beststart.find(db, advice, series.now())
    rows = [row | {"best_start": None} for row in advice.rows]
    for best in rows[:1]:
        best["best_start"] = start and dataclasses.asdict(start)
    return rows


def leaders(advice: Advice) -> list[Row]:
    """What stays within the limits, most accurate first; a training that was stopped by several rules once."""
    inside = [row for row in advice.rows if row["shortfall"] in (None, "not accurate enough")]
    return [row for row in inside if row["training_place"]]


def list_leaders(advice: list[Advice], threshold: str, limit: int) -> None:
    """A table a contest on stdout; what is said about them all on stderr."""
    from greenml.recommend import words

    sources: set[str] = set()
    for one in advice:
        if not (rows := leaders(one)):
            console.say(f"nothing on {one.title} is known to learn under {threshold}")
            continue
        console.out().print(console.table(LEADERS, rows[:limit], title=one.title))
        sources |= {row["source"] for row in rows[:limit]}
        if len(rows) > limit:
            console.say(f"{len(rows) - limit:,} more on {one.title}: --limit")
    console.say("each recipe at the epoch at which it was most accurate under the threshold, mean over its n runs")
    console.say(
        "val % is the accuracy on validation; ± standard deviation over seeds, – where one seed says nothing of it"
    )
    console.say(words.EXTENT)
    for legend in console.legends(sources):
        console.say(legend)


def in_short(run_ids: list[str]) -> str:
    """The first id, and how many more."""
    return run_ids[0][:8] + (f" +{len(run_ids) - 1}" if len(run_ids) > 1 else "")


def tell(text: str, *, indent: str = "") -> None:
    """A row of the answer, wrapped between words. Without rich, which takes a tenth of the time to open."""
    shown = console.clean(text)
    num_wide = sum(unicodedata.east_asian_width(character) in "WF" for character in shown)  # two columns each
    width = max(20, shutil.get_terminal_size().columns - num_wide)
    wrap = textwrap.TextWrapper(
        width, initial_indent=indent, subsequent_indent=2 * indent, break_long_words=False, break_on_hyphens=False
    )
    print(wrap.fill(shown))


LEADERS = [
    Column("model", lambda row: row["model"], right=False, shrinks=True),
    Column("prec.", lambda row: row["precision"] or UNKNOWN, right=False),
    Column("ep.", lambda row: str(row["epochs"])),
    Column("n", lambda row: str(row["num_runs"])),
    Column("val %", lambda row: percentage(row["accuracy"])),
    Column("±", lambda row: percentage(row["std_accuracy"])),
    Column("Wh", lambda row: energy(row["energy_kwh"], row["source"])),
    Column("g CO2e", lambda row: figure(row["co2_g"])),
    Column("time", lambda row: UNKNOWN if row["duration_s"] is None else format_duration(row["duration_s"])),
    Column("runs", lambda row: in_short(row["run_ids"]), right=False),
]
