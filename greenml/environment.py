"""What a run happened in: the machine, the versions, the commit, the command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path("/")
"""Where `sys` and `proc` are."""

PACKAGES = ("greenml", "torch", "torchvision", "timm", "numpy", "codecarbon", "duckdb")


def hardware() -> dict[str, Any]:
    """CPU, threads, memory, system."""
    return {
        "cpu": _cpu_name(),
        "threads": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine(hardware: dict[str, Any], gpus: list[str]) -> str:
    """12 hex digits that stay the same for as long as CPU, threads, memory and GPUs (by name) do."""
    memory_gb = hardware["memory_gb"]
    # To the gigabyte: the kernel keeps some of it, a little more or less with every update.
    parts = [hardware["cpu"], hardware["threads"], memory_gb and round(memory_gb), sorted(gpus)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def virtual_machine() -> str | None:
    """What this system is a guest of, in words; None where nothing says that it is one."""
    if "microsoft" in read_text("proc/sys/kernel/osrelease").lower():
        return "Windows (WSL)"
    is_guest = bool(re.search(r"^flags\s*:.*\bhypervisor\b", read_text("proc/cpuinfo"), re.MULTILINE))
    if not is_guest and not read_text("sys/hypervisor/type"):
        return None
    made_by = [read_text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    return " ".join(filter(None, made_by)) or "a host that does not say its name"


def container() -> str | None:
    """The kind of container that this process runs in; None where nothing says that it runs in one."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER"):
        return "Apptainer"
    if (ROOT / ".dockerenv").exists():
        return "Docker"
    if (ROOT / "run/.containerenv").exists():
        return "Podman"
    return read_text("run/systemd/container") or None


def loaded(module: str) -> bool:
    """Whether a module of the kernel is loaded, or built in."""
    return (ROOT / "sys/module" / module).exists()


def read_text(file: str) -> str:
    """A small file below `ROOT`, without its last newline; empty where it is not there or not for us."""
    try:
        return (ROOT / file).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def versions(of: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of Python and the packages that shape a figure."""
    found = {"python": platform.python_version()}
    for package in of:
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
    return printable(shlex.join([name, *sys.argv[1:]]))


def printable(text: str) -> str:
    """What came from the system and is no UTF-8 -> the same with `\\udce9` for such bytes: it can be stored."""
    return text.encode(errors="backslashreplace").decode()


def provenance(meter: Mapping[str, Any]) -> str:
    """ "CPU estimated (load model, 8 W TDP ...); GPU absent (...); RAM estimated (...)"."""
    return "; ".join(
        f"{part.upper()} {meter[part]['source']} ({meter[part]['method']})" for part in ("cpu", "gpu", "ram")
    )


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
    for line in read_text("proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
