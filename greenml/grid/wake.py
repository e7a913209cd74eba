"""What brings a paused run back: lines to paste, for the clocks of the system, so that nothing idles till then.

Who wakes it has neither its folder nor its environment nor a screen: every line says where to run what, under which
settings, and to which log. Secrets are in no line.
"""

from __future__ import annotations

import base64
import os
import platform
import re
import shlex
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

PASSED_ON = (
    "PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "LANG", "LC_ALL", "TZ",
    "GREENML_STORE", "GREENML_DATA", "GREENML_CACHE", "GREENML_REGION", "GREENML_POLICY", "HF_HOME", "TORCH_HOME",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MLFLOW_TRACKING_URI",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
"""What a training depends on. Nothing else is written down; what is named here and holds a password is not, either."""
SECRETS = ("ELECTRICITYMAPS_TOKEN", "WATTTIME_PASSWORD")
"""What a provider may need, and has to be found elsewhere by who is woken."""
WITH_PASSWORD = re.compile("://[^/]*@")

CRON_LIMIT = 998
"""Characters that Debian's cron takes as a command; longer ones are cut, silently."""
WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """One way to have a command run later."""

    tool: str
    line: str
    """For a POSIX shell; of cron a line of its table, of the Task Scheduler one for PowerShell."""
    note: str
    """What it needs, and what to know of it."""
    runnable: bool
    """Whether what it needs is found here."""


def wakes(
    command: Sequence[str],
    at: datetime,
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    system: str | None = None,
    zone: tzinfo | None = None,
) -> list[Wake]:
    """The ways this system has of running `command` in `folder` at a moment (UTC, naive), or at the next full minute.

    `environment` is that of this process: what matters of it is set again (`passed_on`). What the command says is
    appended to `log`. `system` and `zone` are this one's and the clock's unless they are given.
    """
    job = _Job(
        words=(_program(command[0], folder, environment), *command[1:]),
        at=_full_minute(at),
        folder=os.path.abspath(folder),  # noqa: PTH100 - systemd wants `..` gone, too
        environment=passed_on(environment),
        log=os.path.abspath(folder / log),  # noqa: PTH100
        zone=zone,
        system=system or platform.system(),
    )
    # Not launchd: what it does at a time on a day it does every year, until somebody takes its file away.
    found = {"Windows": [_task_scheduler], "Darwin": [_at, _cron]}.get(job.system, [_at, _systemd_run, _cron])
    return [make(job, environment) for make in found]


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is set again when a run is woken, each folder of PATH once: never a secret."""
    kept = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    if "PATH" in kept:
        kept["PATH"] = os.pathsep.join(dict.fromkeys(kept["PATH"].split(os.pathsep)))
    return {name: value for name, value in kept.items() if not WITH_PASSWORD.search(value)}


def text(wakes: Sequence[Wake], resume_command: Sequence[str], at: datetime, *, zone: tzinfo | None = None) -> str:
    """What `wake.txt` holds and the screen shows: how to go on by hand, and the lines that can be run here.

    Whatever is no command begins with `#` and is at most 80 columns wide; commands are never broken.
    """
    is_windows = any(wake.tool == TASK_SCHEDULER for wake in wakes)
    by_hand = subprocess.list2cmdline(resume_command) if is_windows else shlex.join(resume_command)
    here = [wake for wake in wakes if wake.runnable]
    moment = f"{_local(_full_minute(at), zone):%Y-%m-%d %H:%M}"
    others = ", or one of the lines below" if here else ""
    lines = [*_comment(f"paused until {moment}; to go on, run this{others}:"), by_hand]
    for wake in here:
        lines += [*_comment(f"{wake.tool}: {wake.note}"), wake.line]
    if not here:
        lines += _comment(f"nothing is found here that would wake it: no {', no '.join(wake.tool for wake in wakes)}")
    return "\n".join(lines) + "\n"


TASK_SCHEDULER = "Task Scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    words: tuple[str, ...]
    at: datetime
    """A full minute."""
    system: str
    folder: str
    environment: Mapping[str, str]
    log: str
    zone: tzinfo | None

    @property
    def local(self) -> datetime:
        return _local(self.at, self.zone)

    @property
    def script(self) -> str:
        """For a POSIX shell that reads it from a file, a string or a pipe, which the command then must not read."""
        settings = (f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        return (
            f"cd {shlex.quote(self.folder)} && {''.join(settings)}{shlex.join(self.words)}"
            f" </dev/null >>{shlex.quote(self.log)} 2>&1"
        )


def _at(job: _Job, environment: Mapping[str, str]) -> Wake:
    service = "com.apple.atrun, which is off at first (`man at`)" if job.system == "Darwin" else "atd"
    return Wake(
        tool="at",
        line=f"printf '%s\\n' {shlex.quote(job.script)} | at -t {job.local:%Y%m%d%H%M}",
        note="; ".join([f"needs the service {service}", *_on_the_clock(job)]),
        runnable=_is_there("at", environment),
    )


def _systemd_run(job: _Job, environment: Mapping[str, str]) -> Wake:
    # systemd puts variables into arguments, also where a shell would not: `$$` is a dollar.
    arguments = [word.replace("$", "$$") for word in job.words[1:]]
    line = [
        "systemd-run",
        "--user",
        f"--on-calendar={job.at:%Y-%m-%d %H:%M}:00 UTC",
        f"--working-directory={job.folder}",
        *(f"--setenv={name}={value}" for name, value in job.environment.items()),
        f"--property=StandardOutput=append:{job.log}",
        "--property=StandardError=inherit",
        "--",
        job.words[0],
        *arguments,
    ]
    return Wake(
        tool="systemd-run",
        line=shlex.join(line),
        note="; ".join(["lost at restart, and at logout unless `loginctl enable-linger`", *_secrets(environment)]),
        # Without it there is no manager of this user to talk to: containers, `su`, cron.
        runnable=_is_there("systemd-run", environment) and bool(environment.get("XDG_RUNTIME_DIR")),
    )


def _cron(job: _Job, environment: Mapping[str, str]) -> Wake:
    script = job.script
    if "\n" in script:  # of which a table's line has none
        encoded = script.replace("\\", "\\\\").replace("\n", "\\n")
        script = f'eval "$(printf %b {shlex.quote(encoded)})"'
    guarded = f'[ "$(date +%Y)" = {job.local:%Y} ] && {script}'
    # A percent sign is a newline to cron, unless after a backslash, which is then gone; of two backslashes, though, the
    # first takes the second. A meant one stands within single quotes (`shlex.quote`), where '' parts it from the sign.
    escaped = guarded.replace("\\%", "\\''%").replace("%", "\\%")
    notes = ["a line for `crontab -e`, for this year only"]
    if job.environment.get("TZ"):
        notes.append("cron goes by the system's time zone, not by TZ")
    if is_long := len(escaped) > CRON_LIMIT:
        notes.append(f"too long for many, with more than {CRON_LIMIT} characters")
    return Wake(
        tool="cron",
        line=f"{job.local.minute} {job.local.hour} {job.local.day} {job.local.month} * {escaped}",
        note="; ".join([*notes, *_on_the_clock(job), *_secrets(environment)]),
        runnable=_is_there("crontab", environment) and not is_long,
    )


def _task_scheduler(job: _Job, environment: Mapping[str, str]) -> Wake:
    # `schtasks` takes 261 characters, no folder, and a date in the order of the country's.
    settings = [f"$env:{name} = {_powershell(value)}" for name, value in job.environment.items()]
    start = ["Start-Process", "-NoNewWindow", "-Wait", "-FilePath", _powershell(job.words[0])]
    if job.words[1:]:
        # One string, which reaches the program as it is: lists lose their quotes in Windows PowerShell.
        start += ["-ArgumentList", _powershell(subprocess.list2cmdline(job.words[1:]))]
    start += ["-RedirectStandardOutput", _powershell(job.log), "-RedirectStandardError", _powershell(f"{job.log}.err")]
    script = "\n".join([*settings, " ".join(start)])
    encoded = base64.b64encode(script.encode("utf-16-le")).decode()
    name = re.sub(r"[^\w-]+", "-", f"greenml-{os.path.basename(os.path.dirname(job.log))}-{job.at:%Y%m%dT%H%MZ}")  # noqa: PTH119, PTH120
    line = (
        f"Register-ScheduledTask -TaskName {_powershell(name)}"
        f" -Trigger (New-ScheduledTaskTrigger -Once -At ([datetime]'{job.at:%Y-%m-%dT%H:%M}:00Z'))"
        " -Settings (New-ScheduledTaskSettingsSet -StartWhenAvailable -WakeToRun"
        " -ExecutionTimeLimit ([timespan]::Zero))"
        f" -Action (New-ScheduledTaskAction -Execute 'powershell.exe' -WorkingDirectory {_powershell(job.folder)}"
        f" -Argument '-NoProfile -EncodedCommand {encoded}')"
    )
    return Wake(
        tool=TASK_SCHEDULER,
        line=line,
        note="; ".join(["for PowerShell; runs while you are logged on", *_secrets(environment)]),
        runnable=_is_there("powershell", environment),
    )


def _powershell(value: str) -> str:
    """Quoted; typographic quotes end a string as well."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value) + "'"


def _program(name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Where it is: who wakes it has another PATH. As it was written where it is not found."""
    if os.path.dirname(name):  # noqa: PTH120 - `./x` is Path("x")
        return os.path.abspath(folder / name)  # noqa: PTH100
    return shutil.which(name, path=environment.get("PATH")) or name


def _is_there(tool: str, environment: Mapping[str, str]) -> bool:
    return shutil.which(tool, path=environment.get("PATH")) is not None


def _on_the_clock(job: _Job) -> Iterator[str]:
    """What to know where a local time is not one moment."""
    shown = job.local.replace(tzinfo=job.zone)
    if shown.replace(fold=0).astimezone(UTC) != shown.replace(fold=1).astimezone(UTC):
        yield "the clock is set back then: it may be an hour early or late"


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    if names := [name for name in SECRETS if environment.get(name)]:
        yield f"without {' and '.join(names)}"


def _full_minute(moment: datetime) -> datetime:
    """The next one, or this: no clock wakes anybody to the second, and too early is too dirty."""
    return (moment + timedelta(minutes=1, microseconds=-1)).replace(second=0, microsecond=0)


def _local(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(zone)


def _comment(said: str) -> list[str]:
    return textwrap.wrap(said, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
