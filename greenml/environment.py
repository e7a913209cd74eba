"""What a run happened in: the machine, the versions, the commit, the command."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

PACKAGES = ("greenml", "torch", "torchvision", "timm", "numpy", "codecarbon", "duckdb")


def hardware() -> dict[str, Any]:
    """CPU, threads, memory, system."""
    return {
        "cpu": _cpu_name(),
        "threads": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that shape a figure."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, or a package that this installation does without
            continue
    return found


def dependencies_hash() -> str:
    """Of every installed package and its version: equal where two machines run the same software. 16 hex digits."""
    installed = sorted({f"{package.name.lower()}=={package.version}" for package in distributions()})
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()[:16]


def git() -> tuple[str | None, bool | None]:
    """The commit of the working folder, and whether tracked files differ from it; None where there is no repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _git("status", "--porcelain", "--untracked-files=no")  # a store in the folder is no change
    return commit, None if changes is None else bool(changes)


def command() -> str:
    """The command line, ready to be pasted."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name  # python -m greenml
    return shlex.join([name, *sys.argv[1:]])


def peak_memory_bytes() -> int | None:
    """Most memory that this process has held so far (resident); None where the system does not say."""
    # On Linux `getrusage` would also count the process that started this one.
    if platform.system() == "Linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if platform.system() == "Windows":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
