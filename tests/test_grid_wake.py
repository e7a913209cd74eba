"""Lines that wake a paused run: run by the shell they are for, and by what stands for the clocks."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from greenml.grid.wake import CRON_LIMIT, Wake, passed_on, text, wakes

AT = datetime(2026, 3, 1, 21, 29, 30)
BERLIN = ZoneInfo("Europe/Berlin")
AWKWARD = (
    "two words", "it's", 'say "no"', "100%", "\\%", "\\\\%d", "a\nb\n", "$HOME ${HOME} $$", "`id`", "*", "~", "", "-x",
    "é ☃", "a;b&c|d>e<f#g!h", "\\n", "%%", "'\\''%", "\t",
)  # fmt: skip
POSIX = pytest.mark.skipif(os.name != "posix", reason="the lines are for POSIX shells, and this is none")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)

RECORDER = """#!/bin/sh
[ "$PWD" = "$(pwd -P)" ] || exit 1
printf '%s\\0' "$PWD" "$GREENML_STORE" "$ELECTRICITYMAPS_TOKEN" "$0" "$@" >{record}
cat >{stdin}
echo said
echo warned >&2
"""
CLOCK = """#!/bin/sh
printf '%s\\0' "$@" >{folder}/argv
cat >{folder}/stdin
"""


class Machine:
    """A folder with a program that records how it is called, and `at` and `systemd-run` that record their orders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "it's 100% mine; $HOME"
        self.log = root / "runs" / "ab 12" / "wake.log"
        self.tools = root / "tools"
        for folder in (self.folder, self.log.parent, self.tools):
            folder.mkdir(parents=True)
        self._install("greenml", RECORDER.format(record=root / "record", stdin=root / "read"))
        for tool in ("at", "systemd-run"):
            self._install(tool, CLOCK.format(folder=root))
        self._install("crontab", "")
        self.environment = {
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": "/run/user/1",
            "GREENML_STORE": "a store; it's 50% $full",
            "ELECTRICITYMAPS_TOKEN": "geheim",
        }

    def _install(self, name: str, script: str) -> None:
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def wakes(self, *arguments: str, program: str = "greenml", **given: object) -> dict[str, Wake]:
        """By tool; a moment at which it is 22:30 in Berlin."""
        given = {"environment": self.environment, "system": "Linux", "zone": BERLIN, "at": AT} | given
        found = wakes([program, *arguments], given.pop("at"), folder=self.folder, log=self.log, **given)
        return {wake.tool: wake for wake in found}

    def paste(self, line: str) -> tuple[list[str], str]:
        """Into a shell: what the tool is told, and what it is given to read."""
        subprocess.run(["/bin/sh", "-c", line], check=True, env={"PATH": self.environment["PATH"]}, cwd=self.root)
        return read(self.root / "argv"), (self.root / "stdin").read_bytes().decode()

    def said(self) -> list[str]:
        """Of the program that was woken: its folder, store, token, own name and arguments. It must read nothing."""
        recorded = read(self.root / "record")
        (self.root / "record").unlink()
        assert (self.root / "read").read_bytes() == b""
        assert self.log.read_text() == "said\nwarned\n"
        self.log.unlink()
        return recorded

    def expected(self, *arguments: str) -> list[str]:
        return [str(self.folder), self.environment["GREENML_STORE"], "", str(self.tools / "greenml"), *arguments]


def read(file: Path) -> list[str]:
    return file.read_bytes().decode().split("\0")[:-1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine(tmp_path_factory.mktemp("wake").resolve())


def by_cron(machine, entry: str, *, year: int = 2026) -> None:
    """As Vixie's cron and its heirs read a line and run it: `%` is a newline unless after a backslash, which goes."""
    assert "\n" not in entry
    words = entry.split(maxsplit=5)[5]
    command, rest, escaped = "", None, False
    for i, sign in enumerate(words):
        if sign == "%" and not escaped:
            rest = words[i + 1 :]
            break
        command = command[:-1] + sign if sign == "%" else command + sign
        escaped = sign == "\\" and not escaped
    assert rest is None, "what follows a bare % is no command"
    clock = machine.root / str(year)
    clock.mkdir(exist_ok=True)
    (clock / "date").write_text(f'#!/bin/sh\n[ "$*" = +%Y ] && echo {year}\n')
    (clock / "date").chmod(0o755)
    subprocess.run(["/bin/sh", "-c", command], env={"PATH": f"{clock}:/usr/bin:/bin"}, cwd="/", input=b"not for you")


def by_systemd(machine, argv: list[str]) -> None:
    """As systemd reads an order and runs it: variables in arguments are put in, `$$` is a dollar."""
    end = argv.index("--")
    options = [option.partition("=")[::2] for option in argv[:end]]
    environment = dict(value.split("=", 1) for option, value in options if option == "--setenv")
    folder = dict(options)["--working-directory"]
    properties = dict(value.split("=", 1) for option, value in options if option == "--property")
    assert properties["StandardError"] == "inherit"
    kind, log = properties["StandardOutput"].split(":", 1)
    assert kind == "append"
    arguments = [re.sub(r"\$(\$|\{\w*\}|\w+)", lambda said: "$" * (said[1] == "$"), word) for word in argv[end + 2 :]]
    with open(log, "ab") as file:
        subprocess.run(
            [argv[end + 1], *arguments], check=True, cwd=folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"} | environment,
        )  # fmt: skip


# What is woken


@POSIX
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=4))
@example(list(AWKWARD))
@example([word for word in AWKWARD if "\n" not in word])
@example([])
def test_the_command_that_at_runs_is_the_one_that_was_meant(machine, arguments):
    argv, job = machine.paste(machine.wakes(*arguments)["at"].line)

    assert argv == ["-t", "202603012230"]
    subprocess.run(["/bin/sh"], input=job.encode(), env={"PATH": "/usr/bin:/bin"}, cwd="/", check=True)
    assert machine.said() == machine.expected(*arguments)


@POSIX
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=4))
@example(list(AWKWARD))
@example([word for word in AWKWARD if "\n" not in word])
@example([])
def test_the_command_that_cron_runs_is_the_one_that_was_meant(machine, arguments):
    entry = machine.wakes(*arguments)["cron"].line

    assert entry.startswith("30 22 1 3 * ")
    by_cron(machine, entry)
    assert machine.said() == machine.expected(*arguments)


@POSIX
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=4))
@example(list(AWKWARD))
@example([word for word in AWKWARD if "\n" not in word])
@example([])
def test_the_command_that_systemd_runs_is_the_one_that_was_meant(machine, arguments):
    argv, job = machine.paste(machine.wakes(*arguments)["systemd-run"].line)

    assert argv[:2] == ["--user", "--on-calendar=2026-03-01 21:30:00 UTC"]
    assert job == ""
    by_systemd(machine, argv)
    assert machine.said() == machine.expected(*arguments)


@POSIX
def test_cron_does_not_run_it_again_a_year_later(machine):
    entry = machine.wakes("train")["cron"].line

    by_cron(machine, entry, year=2027)

    assert not (machine.root / "record").exists()


@pytest.mark.parametrize("value", ["x" * CRON_LIMIT, "\n" * CRON_LIMIT])
def test_a_line_that_cron_would_cut_is_not_offered(machine, value):
    found = machine.wakes(value)

    assert not found["cron"].runnable
    assert "too long" in found["cron"].note
    assert found["at"].runnable


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=4))
@example([*AWKWARD, "a\\", 'b\\"c', "\u2018d\u2019 e\\ f"])
def test_the_command_that_windows_runs_is_the_one_that_was_meant(machine, arguments):
    line = machine.wakes(*arguments, system="Windows")["Task Scheduler"].line

    words = strings(line)
    assert words[1] == "2026-03-01T21:30:00Z"
    assert words[3] == str(machine.folder)
    script = base64.b64decode(words[4].removeprefix("-NoProfile -EncodedCommand ")).decode("utf-16-le")
    start = script[script.index("Start-Process") :]
    program, *rest = strings(start)
    assert program == str(machine.tools / "greenml")
    assert rest[-2:] == [str(machine.log), f"{machine.log}.err"]
    assert windows_argv(rest[0] if "-ArgumentList" in start.split("'")[2] else "") == arguments
    assert "$env:GREENML_STORE = 'a store; it''s 50% $full'" in script


def strings(powershell: str) -> list[str]:
    """The quoted strings of a script: each of the signs that PowerShell takes for a quote ends one; two are one."""
    quote = "['\u2018\u2019\u201a\u201b]"
    found = re.findall(f"{quote}((?:[^'\u2018\u2019\u201a\u201b]|{quote}{quote})*){quote}", powershell)
    return [re.sub(f"({quote}){quote}", r"\1", text) for text in found]


def windows_argv(line: str) -> list[str]:
    """As programs on Windows take a command line apart: 2n backslashes before a quote are n, and one more keeps it."""
    words, word, quoted, backslashes, begun = [], "", False, 0, False
    for sign in line:
        if sign == "\\":
            backslashes, begun = backslashes + 1, True
            continue
        if sign == '"':
            word += "\\" * (backslashes // 2)
            if backslashes % 2:
                word += sign
            else:
                quoted = not quoted
            begun = True
        else:
            word += "\\" * backslashes
            if sign in " \t" and not quoted:
                if begun:
                    words.append(word)
                word, begun = "", False
            else:
                word, begun = word + sign, True
        backslashes = 0
    word += "\\" * backslashes
    return [*words, word] if begun else words


# Where and when


def test_who_wakes_it_finds_the_program_and_the_folder(machine, tmp_path, monkeypatch):
    monkeypatch.chdir(machine.folder)

    here = wakes(
        ["./run", "it"], AT, folder=Path(), environment=machine.environment, log=Path("wake.log"), system="Linux"
    )
    words = shlex.split(here[1].line)

    assert words[-2:] == [str(machine.folder / "run"), "it"]
    assert machine.wakes(program="nowhere")["systemd-run"].line.endswith(" -- nowhere")
    assert f"--working-directory={machine.folder}" in words
    assert f"--property=StandardOutput=append:{machine.folder / 'wake.log'}" in words


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
    st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "UTC"]),
)
def test_nobody_is_woken_too_early_nor_a_minute_late(at, zone):
    zone = ZoneInfo(zone)
    by_at, by_systemd, by_cron = wakes(
        ["greenml"], at, folder=Path("/"), environment={}, log=Path("log"), system="Linux", zone=zone
    )
    stamp = datetime.strptime(by_at.line.split()[-1], "%Y%m%d%H%M")
    moment = datetime.strptime(re.search(r"calendar=(.*?) UTC", by_systemd.line)[1], "%Y-%m-%d %H:%M:%S")
    minute, hour, day, month = map(int, by_cron.line.split()[:4])

    assert timedelta() <= moment - at < timedelta(minutes=1)
    assert stamp == datetime(stamp.year, month, day, hour, minute)
    assert f"= {stamp.year} ]" in by_cron.line
    shown = {stamp.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None) for fold in (0, 1)}
    assert moment in shown
    assert [("set back" in wake.note) for wake in (by_at, by_systemd, by_cron)] == [
        len(shown) > 1,
        False,
        len(shown) > 1,
    ]


@pytest.mark.parametrize("at", [datetime(2026, 10, 25, 0, 30), datetime(2026, 10, 25, 1, 30)])
def test_an_hour_that_the_clock_shows_twice_is_pointed_out(machine, at):
    assert "set back" in machine.wakes(at=at)["at"].note
    assert "set back" not in machine.wakes(at=at)["systemd-run"].note


def test_cron_does_not_know_the_time_zone_of_a_shell(machine):
    found = machine.wakes(environment=machine.environment | {"TZ": "Asia/Kolkata"})

    assert "not by TZ" in found["cron"].note
    assert "TZ" not in machine.wakes()["cron"].note


def test_systemd_understands_the_moment(machine):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    stamp = re.search(r"calendar=([^']*)'", machine.wakes()["systemd-run"].line)[1]

    said = subprocess.run(["systemd-analyze", "calendar", stamp], capture_output=True, text=True, check=True).stdout

    assert "Normalized form: 2026-03-01 21:30:00 UTC" in said


def test_cron_understands_its_line(machine, tmp_path):
    if not shutil.which("crontab"):
        pytest.skip("no crontab on this machine")
    file = tmp_path / "table"
    file.write_text(machine.wakes(*AWKWARD)["cron"].line + "\n")
    said = subprocess.run(["crontab", "-T", str(file)], capture_output=True, text=True)
    if "invalid option" in said.stderr or "illegal option" in said.stderr:
        pytest.skip("the crontab of this machine cannot check a table without taking it (-T)")

    assert said.returncode == 0, said.stderr


# What is passed on


def test_what_matters_is_passed_on_and_secrets_are_not(machine):
    matters = {
        "GREENML_STORE": "s", "CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "2", "VIRTUAL_ENV": "/v",
        "PATH": "/bin", "HTTPS_PROXY": "http://proxy:3128",
    }  # fmt: skip
    secrets = {
        "ELECTRICITYMAPS_TOKEN": "geheim1", "WATTTIME_PASSWORD": "geheim2", "HF_TOKEN": "geheim3",
        "WANDB_API_KEY": "geheim4", "MLFLOW_TRACKING_URI": "https://me:geheim5@host/", "HTTP_PROXY": "http://geheim6@proxy",
        "GREENML_TOKEN": "geheim7", "AWS_SECRET_ACCESS_KEY": "geheim8",
    }  # fmt: skip

    assert passed_on(matters | secrets | {"DISPLAY": ":0", "CONDA_PREFIX": ""}) == matters
    for system in ("Linux", "Darwin", "Windows"):
        found = machine.wakes(environment=matters | secrets, system=system).values()
        decoded = [
            base64.b64decode(word + "==") for wake in found for word in re.findall(r"[A-Za-z0-9+/]{200,}", wake.line)
        ]
        assert bool(decoded) == (system == "Windows")
        for told in (*(repr(wake) for wake in found), *(script.decode("utf-16-le") for script in decoded)):
            assert "geheim" not in told


def test_what_a_provider_will_miss_is_said(machine):
    assert machine.wakes()["cron"].note.endswith("without ELECTRICITYMAPS_TOKEN")
    assert "without" not in machine.wakes(environment={})["cron"].note


def test_no_folder_is_twice_in_the_path():
    assert passed_on({"PATH": os.pathsep.join(["/a", "/b", "/a"])}) == {"PATH": os.pathsep.join(["/a", "/b"])}


# What is there, and what is said


def test_a_tool_is_offered_where_it_is_found(machine):
    assert {tool: wake.runnable for tool, wake in machine.wakes().items()} == {
        "at": True, "systemd-run": True, "cron": True,
    }  # fmt: skip
    nowhere = machine.environment | {"PATH": str(machine.folder)}
    assert not any(wake.runnable for wake in machine.wakes(environment=nowhere).values())
    without_a_session = {key: value for key, value in machine.environment.items() if key != "XDG_RUNTIME_DIR"}
    assert not machine.wakes(environment=without_a_session)["systemd-run"].runnable
    assert list(machine.wakes(system="Darwin")) == ["at", "cron"]
    assert "com.apple.atrun" in machine.wakes(system="Darwin")["at"].note


def test_the_text_is_short_and_leaves_commands_whole(machine):
    environment = {key: value for key, value in machine.environment.items() if key != "ELECTRICITYMAPS_TOKEN"}
    found = list(machine.wakes("train", "--resume", "ab 12", environment=environment).values())

    said = text(found, ["greenml", "train", "--resume", "ab 12"], AT, zone=BERLIN).splitlines()

    assert said[:2] == [
        "# paused until 2026-03-01 22:30; to go on, run this, or one of the lines below:",
        "greenml train --resume 'ab 12'",
    ]
    assert [line for line in said if not line.startswith("#")][1:] == [wake.line for wake in found]
    assert len(said) == 8
    assert max(len(line) for line in said if line.startswith("#")) <= 80


def test_the_text_leaves_out_what_cannot_be_run_here(machine):
    at, *others = machine.wakes().values()
    absent = [dataclasses.replace(wake, runnable=False) for wake in others]

    assert "cron" not in text([at, *absent], ["greenml"], AT)
    assert "no systemd-run, no cron" in text(absent, ["greenml"], AT)


def test_the_text_quotes_for_the_system_that_it_is_for(machine):
    found = list(machine.wakes("x", system="Windows").values())

    assert text(found, ["greenml", "a b"], AT).splitlines()[1] == 'greenml "a b"'
