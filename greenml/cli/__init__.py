"""The front door. What is heavy opens inside the commands: help opens none of it (tests/test_front_door.py)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from greenml import __version__, console
from greenml.cli import (
    board,
    compress,
    doctor,
    estimate,
    evaluate,
    grid,
    importing,
    log,
    predict,
    recommend,
    replay,
    report,
    rm,
    runs,
    share,
    sweep,
    track,
    train,
)
from greenml.errors import GreenMLError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """\
\b
First steps:
  greenml train cnn --dataset digits     train on data that is already here, in seconds
  greenml board                          what every run reached, and what it took
  greenml sweep --dataset digits         search models and settings for little CO2
  greenml recommend                      what to run instead, and on which evidence
  greenml report                         all of it on one page, to be mailed
  greenml predict RUN IMAGE...           what a run's model sees in images
  greenml runs show RUN                  everything known about one run
  greenml doctor                         what can be measured here, and why not the rest
  greenml track -- python script.py      any other program under the same meter
"""

app = typer.Typer(
    rich_markup_mode=None,  # plain help: rich panels take 80 ms more than the 0.2 s that help may take
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug's traceback as Python prints it
    context_settings={
        "help_option_names": ["-h", "--help"],
        # --batch_size is --batch-size. Choices use hyphens only, as this reaches them too.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


def print_version(asked: bool) -> None:
    if asked:
        print(f"greenml {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def greenml(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train image classifiers and know what every epoch cost."""
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(train.train)
app.command(epilog=compress.EXAMPLES)(compress.compress)
app.command()(board.board)
app.command()(recommend.recommend)
app.command(epilog=report.EXAMPLES)(report.report)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command(
    context_settings={"allow_interspersed_args": False},  # what follows the program's name is the program's
    epilog=track.EXAMPLES,
)(track.track)
app.command("import")(importing.import_runs)
app.command()(estimate.estimate)
app.command(epilog=replay.EXAMPLES)(replay.replay)
app.command()(doctor.doctor)
for command in (rm.rm, rm.restore, share.export, share.merge, log.log):
    runs.app.command()(command)
app.add_typer(runs.app, name="runs")
app.add_typer(sweep.app, name="sweep")
app.add_typer(grid.app, name="grid")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Only what users can mend is caught here: a bug keeps its traceback."""
    try:
        code = app(arguments, prog_name="greenml", standalone_mode=False)
        sys.stdout.flush()
    except GreenMLError as what:
        console.error(what)
        code = what.exit_code
    except TyperException as what:
        console.error(usage_error(what))
        code = UsageError.exit_code
    except BrokenPipeError:  # `greenml board | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code or 0)


def usage_error(what: TyperException) -> UsageError:
    """Typer's words -> ours: what is wrong, and the nearest thing that is right."""
    text, _, suggestion = what.message.partition(" Did you mean ")
    near = sorted(getattr(what, "possibilities", None) or [])
    if not near and not suggestion:
        text = what.format_message()
    context = getattr(what, "ctx", None)
    hint = f"`{context.command_path if context else 'greenml'} --help` shows what there is"
    if near:
        hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?"
    elif suggestion:
        hint = "did you mean " + suggestion.replace("'", "`")
    return UsageError(text[:1].lower() + text[1:].rstrip(".").replace("'", "`"), hint=hint)
