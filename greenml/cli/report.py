"""`greenml report`: what the store knows, for people who have no greenml: a page, charts, tables, files of rows."""

from __future__ import annotations

from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, exchange, units
from greenml.cli.board import UNFINISHED
from greenml.cli.options import (
    EVERYTHING,
    FIRST_RUN,
    DatasetOption,
    JsonOption,
    LastOption,
    ModelOption,
    RunsArgument,
    StoreOption,
    TagOption,
    chosen,
    flag,
)
from greenml.cli.portrait import everything, everything_of
from greenml.cli.recommend import quantity
from greenml.console import counted
from greenml.errors import StoreError, UsageError
from greenml.files import whole
from greenml.records import utc_now
from greenml.units import format_bytes, format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from greenml.recommend import Advice
    from greenml.report.content import Content
    from greenml.report.tables import Table
    from greenml.store import Store

    Row = dict[str, Any]

PAGE_LIMIT = 100
TEXTS = ("--md", "--latex", "--model-card", "--compare", "--json")
OF_NAMED_RUNS = {"--model-card", "--compare"}
OF_CONTENT = {"--html", "--md", "--latex", "--png", "--svg"}
MODULES = {"altair": "altair", "polars": "polars", "vl_convert": "vl-convert-python"}
"""By the name that is imported: how a package is called where it is installed from."""
NEEDED = {**dict.fromkeys(("--html", "--png", "--svg"), ("altair", "vl_convert")), "--parquet": ("polars",)}
RUNS_AT_ONCE = 500
EXAMPLES = """\
\b
Examples:
  greenml report                         one page, beside the store
  greenml report --md --dataset digits   what one data set came to, for an issue
  greenml report --csv out --png out     rows and charts, for a paper
  greenml report --model-card RUN        a README for the hub
"""


def report(
    runs: RunsArgument = None,
    html: Annotated[
        bool, typer.Option("--html", help="One page with everything, which needs no network. The default.")
    ] = False,
    md: Annotated[bool, typer.Option("--md", help="Markdown, as GitHub shows it.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Tables for a paper, with booktabs.")] = False,
    model_card: Annotated[
        str | None, typer.Option("--model-card", metavar="RUN", help="The README of a model for Hugging Face.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option("--compare", metavar="RUN RUN", help="Two runs side by side.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="DIR", help="Every chart as PNG.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="DIR", help="Every chart as SVG.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="DIR", help="Every row, a file a view.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="DIR", help="The same as Parquet.")] = None,
    json: JsonOption = False,
    output: Annotated[
        Path | None,
        flag(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the page, or the text, goes.",
            default="report.html beside the store; stdout",
        ),
    ] = None,
    low_carbon: Annotated[
        str | None,
        typer.Option("--low-carbon", metavar="MASS", help="In --md and --latex: the best runs of at most 20g."),
    ] = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    last: LastOption = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Also runs that still run, crashed or failed.")] = False,
    limit: Annotated[
        int | None,
        flag(
            "--limit",
            min=1,
            metavar="N",
            help="The best N runs.",
            default=f"{PAGE_LIMIT} in pages, tables and charts; all as rows",
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Hand over what the runs came to, as a page, charts or tables."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    asked: dict[str, Any] = {
        "--html": html,
        "--md": md,
        "--latex": latex,
        "--json": json and not compare,
        "--model-card": model_card,
        "--compare": compare,
        "--png": png,
        "--svg": svg,
        "--csv": csv,
        "--parquet": parquet,
    }
    if any(run.startswith("-") for run in compare or ()):  # Typer takes the next two words, whatever they are
        raise UsageError("--compare takes two runs", hint="as in greenml report --compare RUN RUN")
    formats = [name for name, value in asked.items() if value] or ["--html"]
    filters: dict[str, Any] = {"dataset": dataset, "model": model, "tag": tag, "last": last}
    most_g = quantity("--low-carbon", low_carbon, units.GRAMS, "20g")
    refuse_two_texts(formats, output)
    refuse_files(png, svg, csv, parquet)
    refuse_what_does_nothing(formats, low_carbon, [runs, all_runs, limit, *filters.values()])
    refuse_without_packages(formats)

    matter = Matter(db, runs or [], filters, everything=all_runs, limit=limit, most_g=most_g)
    for name in formats:
        with to(output if name in TEXTS else None):
            match name:
                case "--html":
                    write_text(output or db.path.parent / "report.html", matter.html())
                case "--md":
                    print(matter.markdown(), end="")
                case "--latex":
                    print(matter.latex(), end="")
                case "--json":
                    print_json(db, matter.rows_of if matter.run_ids else [])
                case "--model-card":
                    print(card_of(db, db.run_id(asked[name])), end="")
                case "--compare":
                    print_comparison(db, *map(db.run_id, asked[name]), json=json)
                case "--csv" | "--parquet":
                    write_views(db, matter.rows_of, asked[name], name.removeprefix("--"))
                case "--png" | "--svg":
                    matter.write_charts(asked[name], name.removeprefix("--"))


# What was asked for


def refuse_two_texts(formats: Sequence[str], output: Path | None) -> None:
    """There is one stdout, and one file of --output, where the page goes too, if it is named."""
    here = [name for name in formats if name in TEXTS or (output and name == "--html")]
    if len(here) > 1:
        raise UsageError(f"{' and '.join(here)} would all go to {output or 'stdout'}", hint="ask for one at a time")
    if output is not None and not here:
        raise UsageError(f"nothing goes to --output {output}", hint="folders of files have names of their own")
    if output is not None:
        with writing(output):
            if output.is_dir():
                raise UsageError(f"{output} is a folder", hint="name a file in it")


def refuse_files(*folders: Path | None) -> None:
    for folder in folders:
        if folder is not None:
            with writing(folder):
                if folder.exists() and not folder.is_dir():
                    raise UsageError(f"{folder} is a file, and many files go there", hint="name a folder")


def refuse_what_does_nothing(formats: Sequence[str], low_carbon: str | None, choices: Sequence[Any]) -> None:
    if low_carbon and not {"--md", "--latex"} & {*formats}:
        hint = f"or: greenml recommend --low-carbon {low_carbon}"
        raise UsageError("--low-carbon is a table of --md and --latex", hint=hint)
    if {*formats} <= OF_NAMED_RUNS and any(choices):
        raise UsageError(f"{formats[0]} names what it is about", hint="leave out the other runs, filters and limits")


def refuse_without_packages(formats: Sequence[str]) -> None:
    """A machine that only trains may do without what draws."""
    for name in formats:
        missing = [MODULES[module] for module in NEEDED.get(name, ()) if find_spec(module) is None]
        if missing:
            raise UsageError(
                f"{name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
                hint=f"python -m pip install {' '.join(missing)}",
            )


def nothing_to_tell(db: Store) -> UsageError:
    if db.rows("select 1 as one from runs limit 1"):
        return UsageError(f"no finished run in {db.path} matches", hint="--all takes unfinished ones, too")
    return UsageError(f"no runs yet in {db.path}", hint=FIRST_RUN.removeprefix("hint: "))


# Texts


def card_of(db: Store, run_id: str) -> str:
    from greenml.report import card, rows

    run = everything(db, run_id)
    return card.card(run, rows.all_of_contest(db, run["contest"]))


def print_comparison(db: Store, first: str, second: str, *, json: bool) -> None:
    from greenml.report.compare import compare, show

    comparison = compare(db, first, second)
    if json:
        console.print_json(comparison.as_json())
    else:
        show(comparison)


def print_json(db: Store, run_ids: Sequence[str]) -> None:
    """Every run with all its rows; not all at once, as there may be millions."""
    parts = (run_ids[start : start + RUNS_AT_ONCE] for start in range(0, len(run_ids), RUNS_AT_ONCE))
    console.print_json(run for part in parts for run in everything_of(db, part))


class Matter:
    """The runs that were asked for, and what is said of them; each part is read when it is asked for."""

    def __init__(
        self,
        db: Store,
        prefixes: Sequence[str],
        filters: dict[str, Any],
        *,
        everything: bool,
        limit: int | None,
        most_g: float | None,
    ) -> None:
        self.db = db
        self.prefixes, self.filters, self.everything = prefixes, filters, everything
        self.limit = limit
        self.most_g = most_g
        self.written_at = utc_now()

    @cached_property
    def run_ids(self) -> list[str]:
        """Oldest first: finished runs, or those that were named."""
        named = {self.db.run_id(prefix) for prefix in self.prefixes}
        sql, values = chosen("runs", **self.filters)
        finished = "true" if self.everything or named else f"not {UNFINISHED}"
        rows = self.db.rows(f"select run_id from ({sql}) where {finished} order by started_at, run_id", values)
        return [row["run_id"] for row in rows if not named or row["run_id"] in named]

    @cached_property
    def rows_of(self) -> list[str]:
        """The runs whose rows are handed over: all, but for a limit."""
        return self.best(EVERYTHING)

    @cached_property
    def shown(self) -> list[str]:
        """The runs that fit on a page."""
        return self.best(PAGE_LIMIT)

    def best(self, limit: int) -> list[str]:
        """All of them where the limit leaves none out; else the best, and a word on the others."""
        from greenml.report import rows

        limit = self.limit or limit
        if not self.run_ids:
            raise nothing_to_tell(self.db)
        if len(self.run_ids) <= limit:
            return self.run_ids
        console.say(f"the best {limit:,} of {counted(len(self.run_ids), 'run')}: --limit takes more")
        return rows.best(self.db, self.run_ids, limit)

    @cached_property
    def content(self) -> Content:
        from greenml.report.content import gather

        return gather(self.db, self.shown, num_left_out=len(self.run_ids) - len(self.shown))

    @cached_property
    def advice(self) -> list[Advice]:
        from greenml.recommend import Asked, advise

        return advise(self.db, Asked(contests=list(dict.fromkeys(run["contest"] for run in self.content.runs))))

    def html(self) -> str:
        from greenml.report.library import prepare
        from greenml.report.page import page

        if self.shown:
            prepare()  # beside reading the rows
        return page(self.content, self.advice, written_at=self.written_at)

    def markdown(self) -> str:
        from greenml.report import markdown, rows

        contests = rows.contests(self.db, self.run_ids)
        return markdown.document(self.content, self.advice, contests, self.leaders(), written_at=self.written_at)

    def latex(self) -> str:
        from greenml.report import latex

        return latex.document(self.content, self.leaders(), written_at=self.written_at)

    def leaders(self) -> list[Table]:
        """The best runs under the threshold, where one was given."""
        from greenml.report import contests, rows

        if self.most_g is None:
            return []
        found = rows.low_carbon(self.db, self.run_ids, self.most_g)
        if not found:
            console.say(f"no ranked run took at most {format_mass(self.most_g)} CO2e")
        return contests.leaders(found, self.most_g)

    def write_charts(self, folder: Path, kind: str) -> None:
        """Every figure under its own name."""
        from greenml import plots
        from greenml.report.figures import figures

        save = {"png": plots.save_png, "svg": plots.save_svg}[kind]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files = []
            for figure in figures(self.content):
                if figure.chart is None:
                    console.say(f"no {figure.name}.{kind}: {figure.caption}")
                    continue
                files.append(folder / f"{figure.name}.{kind}")
                with whole(files[-1]) as partial:
                    save(plots.titled(figure.chart, figure.title, figure.caption), partial)
        say_written(folder, files)


# Files


def write_views(db: Store, run_ids: Sequence[str], folder: Path, kind: str) -> None:
    """A file a view: CSV with its columns as the header, or Parquet, which has types."""
    from greenml.report import rows

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for view in rows.views(db, run_ids):
            files.append(folder / f"{view.name}.{kind}")
            if kind == "csv":
                plain = (console.plain(row) for part in view.parts for row in part)
                exchange.write_csv(files[-1], plain, [*view.types])
            else:
                exchange.write_parquet(files[-1], view.parts, view.types)
    say_written(folder, files)


def write_text(path: Path, text: str) -> None:
    with writing(path):
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: written to, and never replaced by a file
            path.write_text(text, encoding="utf-8")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            partial.write_text(text, encoding="utf-8")
    say_written(path, [path])


@contextmanager
def to(output: Path | None) -> Iterator[None]:
    """What is printed goes into the file, whole or not at all; without one to stdout."""
    if output is None:
        yield
        return
    text = StringIO()
    with redirect_stdout(text):
        yield
    write_text(output, text.getvalue())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A target that cannot be written, or not even be looked at, is an error of two lines."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}", hint="choose another place") from error


def say_written(path: Path, files: Sequence[Path]) -> None:
    """What is where, and how large."""
    size = format_bytes(sum(file.stat().st_size for file in files))
    console.say(f"{path}: {size}" if [path] == [*files] else f"{path}: {counted(len(files), 'file')}, {size}")
