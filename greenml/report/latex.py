"""The report's tables for a paper: a fragment for `\\input`, which needs `\\usepackage{booktabs}` and nothing else.

Letters beyond the machine's own are kept as they are: pdfLaTeX has those of European languages, and LuaLaTeX, with a
font that has them, all others.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from greenml.console import clean
from greenml.report import contests, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from greenml.report.content import Content
    from greenml.report.tables import Table

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
LINES_A_PAGE = 45


def document(content: Content, leaders: Sequence[Table] = (), *, written_at: datetime) -> str:
    """Leaderboard and front of each contest, then the `leaders` under a threshold. `written_at` is UTC."""
    drawn = [
        *(captioned(f"Leaderboard of {board.title}", board) for board in tables.leaderboards(content)),
        *contests.fronts(content),
        *(captioned(f"Low-carbon leaders of {table.title}", table) for table in leaders),
    ]
    head = f"% written by greenml report, {written_at:%Y-%m-%d %H:%M} UTC; needs \\usepackage{{booktabs}}"
    return "\n\n".join([head, *map(table, drawn)]) + "\n"


def captioned(caption: str, drawn: Table) -> Table:
    """In a paper a table stands alone: no heading of a section says what it is."""
    return dataclasses.replace(drawn, title=caption)


def table(drawn: Table) -> str:
    """A float with a caption, a label after its name and its notes below; of a long one, a float for each page."""
    starts = range(0, max(1, len(drawn.lines)), LINES_A_PAGE)
    return "\n\n".join(_float(drawn, start) for start in starts)


def _float(drawn: Table, start: int) -> str:
    lines = drawn.lines[start : start + LINES_A_PAGE]
    align = "".join("r" if column.is_number else "l" for column in drawn.columns)
    notes = " ".join(rf"{escape(note)}.\par" for note in drawn.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(drawn.title)}{' (continued)' if start else ''}}}",
            *([] if start else [rf"\label{{tab:greenml-{drawn.name}}}"]),
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            row(column.head for column in drawn.columns),
            r"\midrule",
            *(row(cell.text for cell in line.cells) for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\smallskip\raggedright {notes}"] if notes else []),
            r"\end{table}",
        ]
    )


def row(texts: Iterable[str]) -> str:
    return " & ".join(map(escape, texts)) + r" \\"


def escape(text: str) -> str:
    """Plain text -> LaTeX that shows just that, on one line."""
    return SPECIAL.sub(lambda found: ESCAPES[found[0]], clean(text).strip())
