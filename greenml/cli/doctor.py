"""`greenml doctor`: what works here, why the rest does not, and what a run would store."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from greenml import console
from greenml.cli.options import JsonOption, StoreOption
from greenml.errors import UsageError

if TYPE_CHECKING:
    from greenml.checkup import Report
    from greenml.energy.survey import Finding

MARKS = {"works": "✓", "works with a limit": "!", "does not work": "✗", "not here": "–"}
STYLES = {"✓": "green", "!": "yellow", "✗": "red", "–": "dim"}
INDENT = 12
"""Columns before the text of a finding: its mark and its name."""


def doctor(
    region: Annotated[
        str | None, typer.Option("--region", metavar="CODE", help="Whose grid: IN, IND, IN-TN, US-CA, asia-south1, ...")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0, max=600, metavar="N", help="How long to measure idle power; 0: not at all."),
    ] = 5.0,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Say what can be measured here, and why the rest cannot."""
    if math.isnan(seconds):
        raise UsageError("--seconds nan is no number", hint="as in --seconds 5")
    from greenml import checkup
    from greenml.store import Store, resolve_path

    report = checkup.look(Store(resolve_path(store)), region=region, seconds=seconds, say=console.say)
    if json:
        console.print_json([report.as_row()])
    else:
        _print(report)
    if report.exit_code:
        raise SystemExit(report.exit_code)


def _print(report: Report) -> None:
    machine = report.facts["machine"]
    memory = f", {machine['memory_gb']:.0f} GB" if machine["memory_gb"] else ""
    cpu = f"{machine['cpu']}, {machine['threads']} threads{memory}"
    guest = "a virtual machine" if machine["virtual_machine"] else None
    _line(" · ".join(filter(None, [cpu, *machine["gpus"], machine["system"], guest, machine["container"]])))
    for section, findings in report.findings.items():
        _line("")
        _line(section, style="bold")
        for finding in findings:
            _show(finding)
    _line("")
    _line(", ".join(f"{mark} {state}" for state, mark in MARKS.items()), style="dim")
    console.say("not ready: mend what is marked ✗" if report.exit_code else "a run can be metered and stored here")


def _show(finding: Finding) -> None:
    """The mark, the name and the text, aligned; below it the way out. A command stays whole, to be copied."""
    from rich.text import Text

    mark = MARKS[finding.state]
    width = max(console.out().width - INDENT, 20)
    lines = textwrap.wrap(console.clean(finding.text), width, break_on_hyphens=False, break_long_words=False)
    for hint in map(console.clean, finding.hints):
        wrapped = textwrap.wrap(hint, width, initial_indent="> ", subsequent_indent="  ", break_on_hyphens=False)
        lines += [hint] if hint.startswith("$ ") else wrapped
    head = Text.assemble((mark, STYLES[mark]), f" {finding.name}".ljust(INDENT - 1), lines[0])
    console.out().print(head, soft_wrap=True)
    for line in lines[1:]:
        console.out().print(Text(" " * INDENT + line), soft_wrap=True)


def _line(text: str, style: str = "") -> None:
    from rich.text import Text

    console.out().print(Text(console.clean(text), style=style))
