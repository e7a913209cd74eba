"""The report as Markdown that GitHub shows: for an issue, a pull request or a README."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from greenml.console import clean, counted, percentage
from greenml.report import compression, tables
from greenml.report.method import LIMITS, METHOD
from greenml.report.tables import mark
from greenml.units import format_duration, format_energy, format_mass, joules_of_kwh

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from greenml.recommend import Advice
    from greenml.report.content import Content
    from greenml.report.tables import Table

    Row = dict[str, Any]

# An underscore between letters or digits marks nothing: mobilenetv2_100 stays readable where nobody renders it.
SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def document(
    content: Content,
    advice: Sequence[Advice],
    contests: Sequence[Row],
    leaders: Sequence[Table] = (),
    *,
    written_at: datetime,
) -> str:
    """The whole report; `contests` are those of `rows.contests`, `written_at` is UTC."""
    sections = [
        section("Recommendation", recommendation(advice)),
        section("Leaderboard", *map(table, tables.leaderboards(content)), left_out(content)),
        section("Low-carbon leaders", *map(table, leaders)),
        section("Use this instead", *map(bare, [tables.swaps(content)])),
        section("What one change saved", *map(bare, [tables.savings(content)])),
        section("Sweeps", *map(bare, [tables.sweeps(content), tables.sweep_front(content)])),
        compressed(content),
        section(
            "Method",
            bullets(f"**{term}**: {text}" for term, text in METHOD),
            *map(bare, [tables.factors(content), tables.decisions(content), tables.meters(content)]),
        ),
        section("Limits", bullets(LIMITS)),
    ]
    parts = ["# Energy and accuracy", *map(headline, contests), *filter(None, sections)]
    parts.append(f"<sub>written by `greenml report`, {written_at:%Y-%m-%d %H:%M} UTC</sub>")
    return "\n\n".join(parts) + "\n"


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading and what is below it; nothing where there is nothing."""
    told = [part for part in parts if part]
    return "\n\n".join([f"{'#' * level} {title}", *told]) if told else ""


def compressed(content: Content) -> str:
    """What compression came to; nothing without a compressed model."""
    if not content.served:
        return ""
    return section(
        "Compression",
        bullets(map(escape, compression.sentences(content))),
        *map(bare, [compression.served(content), compression.paid(content)]),
        bullets(map(escape, compression.notes(content))),
    )


def headline(contest: Row) -> str:
    """What a contest came to, in a paragraph."""
    runs = counted(contest["num_runs"], "run")
    sentences = [f"**{escape(contest['first_dataset'])}**: {runs}, {contest['num_ranked']:,} ranked"]
    if best := contest["most_accurate"]:
        sentences.append(f"Most accurate on validation: {reached(best)}")
    if contest["thriftiest"] and contest["thriftiest"]["run_id"] != (best or {}).get("run_id"):
        sentences.append(f"Most accuracy per kWh: {reached(contest['thriftiest'])}")
    if not contest["num_metered"]:
        sentences.append("None of them was metered here")
    elif contest["num_metered"] < contest["num_runs"]:
        sentences.append(f"Those metered here ({counted(contest['num_metered'], 'run')}) took {together(contest)}")
    else:
        sentences.append(f"All of them together took {together(contest)}")
    return ". ".join(sentences) + "."


def reached(run: Row) -> str:
    """A ranked run in a few words."""
    words = (
        f"{escape(run['model'])} ({run['precision'] or 'precision unknown'}, run {run['run_id'][:8]}), "
        f"{percentage(run['val_accuracy'])} % validation and {percentage(run['accuracy'])} % test accuracy for "
    )
    return words + escape(f"{mark(run['source'])}{format_energy(joules_of_kwh(run['energy_kwh']))}")


def together(row: Row) -> str:
    """Energy, CO2e and time of many runs: the known part, and of how many it is not everything."""
    if not row["total_known_kwh"]:
        return "an unknown amount of energy"
    sign = mark(row["worst_source"])
    energy = f"{sign}{format_energy(joules_of_kwh(row['total_known_kwh']))}"
    co2 = f"{sign}{format_mass(row['total_known_co2_g'])} CO2e"
    least = "" if row["total_s"] is not None else mark("unknown")
    words = f"{energy}, {co2} and {least}{format_duration(row['total_known_s'])} of machine time"
    notes = []
    if row["num_unknown"]:
        notes.append(f"of {counted(row['num_unknown'], 'run')} only a part is known, or nothing")
    if row["num_overlapping"]:
        notes.append(f"{counted(row['num_overlapping'], 'run')} shared the machine, whose energy is in each of them")
    return escape(words + (f" ({'; '.join(notes)})" if notes else ""))


def recommendation(advice: Sequence[Advice]) -> str:
    """Every piece of advice with its evidence and commands."""
    return "\n\n".join(part for piece in advice for part in advised(piece))


def advised(advice: Advice) -> Iterator[str]:
    if advice.was_left_out:
        return
    yield f"**{escape(advice.title)}**: {escape(advice.sentence)}"
    if advice.evidence:
        yield bullets(map(escape, advice.evidence))
    if advice.command:
        yield code(advice.command)
    if advice.runners_up:
        yield "Runners-up:"
        yield bullets(map(escape, advice.runners_up))
    if advice.next_reason:
        yield f"What would tell more: {escape(advice.next_reason)}"
    if advice.next_command:
        yield code(advice.next_command)


def left_out(content: Content) -> str:
    more = content.num_left_out
    return f"{counted(more, 'more run')}: `greenml report --limit` shows more." if more else ""


def table(drawn: Table) -> str:
    """With its title and notes."""
    return f"### {escape(drawn.title)}\n\n{bare(drawn)}"


def bare(drawn: Table | None) -> str:
    """A table of GitHub's kind, and its notes beneath; nothing where there is none."""
    if drawn is None:
        return ""
    notes = "<br>\n".join(f"<sub>{escape(note)}</sub>" for note in drawn.notes)
    lines = [[cell.text for cell in line.cells] for line in drawn.lines]
    drawing = grid([column.head for column in drawn.columns], lines, [column.is_number for column in drawn.columns])
    return "\n\n".join(filter(None, [drawing, notes]))


def grid(heads: Sequence[str], lines: Iterable[Sequence[str]], is_number: Sequence[bool]) -> str:
    """Heads and cells as plain text -> a table."""
    rule = ["---:" if number else "---" for number in is_number]
    rows = [[escape(head) or " " for head in heads], rule, *([escape(text) or " " for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def bullets(lines: Iterable[str]) -> str:
    """A list; what begins as a heading or a list of its own does not become one."""
    return "\n".join("- " + re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", line) for line in lines)


def code(text: str) -> str:
    """A command as it is typed, in a fence longer than any in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}sh\n{clean(text)}\n{fence}"


def escape(text: str) -> str:
    """Plain text -> Markdown that shows just that, on one line: also inside a table, and no HTML of it is obeyed."""
    return SPECIAL.sub(lambda found: ENTITIES.get(found[0], f"\\{found[0]}"), clean(text).strip())
