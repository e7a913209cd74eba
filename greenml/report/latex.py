"""The report's tables for a paper: a fragment for `\\input`, which needs `\\usepackage{booktabs}` and nothing else.

Letters beyond the machine's own are kept as they are: pdfLaTeX has those of European languages, and LuaLaTeX, with a
font that has them, all others.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from greenml.console import clean
from greenml.report import tables
from greenml.units import MASS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from greenml.report.content import Content
    from greenml.report.tables import Table

    Row = dict[str, Any]

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    # After the `\\` that ends a line, these two would be taken for its arguments.
    "[": "{[}",
    "*": "{*}",
    # What the tables themselves say, in characters that every LaTeX has.
    "~": r"$\sim$",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "÷": r"$\div$",
    "●": r"$\bullet$",
    "→": r"$\rightarrow$",
    "–": "--",
    # Two hyphens would become one dash.
    "--": "-{}-",
}
SPECIAL = re.compile("|".join(map(re.escape, sorted(ESCAPES, key=len, reverse=True))))


def document(content: Content, leaders: Sequence[Table] = (), *, written_at: datetime) -> str:
    """Leaderboard and front of each contest, then the `leaders` under a threshold. `written_at` is UTC."""
    drawn = [*tables.leaderboards(content), *fronts(content), *leaders]
    head = f"% written by greenml report, {written_at:%Y-%m-%d %H:%M} UTC; needs \\usepackage{{booktabs}}"
    return "\n\n".join([head, *map(table, drawn)]) + "\n"


def fronts(content: Content) -> list[Table]:
    """The front over every (run, epoch), one table a contest, each point with the run that it is of."""
    runs = {run["run_id"]: run for run in content.runs}
    points = [runs[point["run_id"]] | point for point in content.front]
    contests = [list(group) for _, group in itertools.groupby(points, lambda point: point["contest"])]
    titles = tables.titles_of([group[0] for group in contests])
    return [front(f"front-{i}", title, group) for i, (title, group) in enumerate(zip(titles, contests, strict=True), 1)]


def front(name: str, title: str, points: Sequence[Row]) -> Table:
    has_accuracy = points[0]["metric"] == "accuracy"
    reached = tables.share("val. %", "accuracy") if has_accuracy else tables.count(points[0]["metric"], "value")
    columns = [
        tables.words("model", "model"),
        tables.words("precision", "precision"),
        tables.Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False),
        tables.count("epoch", "epoch"),
        reached,
        tables.quantity("energy", "energy_kwh", points, tables.ENERGY_KWH),
        tables.quantity("CO2e", "co2_g", points, MASS),
    ]
    notes = [
        "hindsight: epochs that no other of these beats in accuracy on validation and energy so far, without the test"
    ]
    return tables.draw(name, "pareto_front", f"The front of {title}", columns, points, notes=notes)


def table(drawn: Table) -> str:
    """A float with a caption, its notes beneath the rule, and a label after its name."""
    align = "".join("r" if column.is_number else "l" for column in drawn.columns)
    heads = " & ".join(escape(column.head) for column in drawn.columns)
    lines = [" & ".join(escape(cell.text) for cell in line.cells) + r" \\" for line in drawn.lines]
    notes = " ".join(rf"{escape(note)}.\par" for note in drawn.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(drawn.title)}}}",
            rf"\label{{tab:greenml-{drawn.name}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\smallskip\footnotesize {notes}"] if notes else []),
            r"\end{table}",
        ]
    )


def escape(text: str) -> str:
    """Plain text -> LaTeX that shows just that, on one line."""
    return SPECIAL.sub(lambda found: ESCAPES[found[0]], clean(text).strip())
