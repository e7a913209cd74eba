"""Which meters work on this machine, and why the others do not: looked at from outside, nothing is started."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml import environment
from greenml.energy import rapl
from greenml.energy.meters import open_sensor
from greenml.energy.sensor import SensorError
from greenml.energy.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.energy.sensor import Component

NVIDIA, AMD = "0x10de", "0x1002"
"""The makers, as a PCI device names them."""

OPEN_NOW = "$ sudo chmod a+r /sys/class/powercap/intel-rapl*:*/energy_uj"
OPEN_FOR_GOOD = (
    """$ echo 'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl*:*", """
    """RUN+="/bin/chmod a+r $sys$devpath/energy_uj"' | sudo tee /etc/udev/rules.d/70-rapl.rules"""
)
LOAD_NOW = "$ sudo modprobe intel_rapl_msr"
LOAD_FOR_GOOD = "$ echo intel_rapl_msr | sudo tee /etc/modules-load.d/rapl.conf"
GUESSED = "the CPU is then estimated by its load; --tdp WATTS, as its maker lists it, makes that better"


class State(StrEnum):
    """How well something works."""

    WORKS = "works"
    LIMITED = "works with a limit"
    BROKEN = "does not work"
    ABSENT = "not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one thing."""

    name: str
    state: State
    text: str
    """In words, one line."""
    hints: tuple[str, ...] = ()
    """The way out, line by line; what begins with "$ " is a command, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What NVML shows."""

    names: tuple[str, ...] = ()
    has_counter: tuple[bool, ...] = ()
    busy_percent: tuple[int, ...] = ()
    """Share of the last second or less in which something ran on it; 0 where it does not say."""
    driver: str | None = None
    cuda: str | None = None
    """The newest CUDA that the driver runs."""
    trouble: str | None = None
    """Why there is no answer, in words; None where there is no NVIDIA GPU, too."""
    hint: str = ""


def machine(gpus: Gpus | None = None) -> str:
    """12 hex digits by which the store knows this machine."""
    return environment.machine(environment.hardware(), list((gpus or nvidia_gpus()).names))


def processor() -> Finding:
    """The energy counters of the CPU."""
    system = platform.system()
    if system != "Linux":
        return _elsewhere(system)
    try:
        counters = rapl.open_counters()
    except SensorError as error:
        return _unreadable(str(error))
    if counters is None:
        return _without_counters()
    text = counters.components()["cpu"].method
    if "ram" in counters.components():
        return Finding(name="RAPL", state=State.WORKS, text=f"{text}; memory has one, too")
    shown = [domain for domain in rapl.find_domains() if domain.counts_as == "ram"]
    if shown:
        text += f"; that of memory cannot be read: {shown[0].counter}"
        return Finding(name="RAPL", state=State.LIMITED, text=text, hints=_permission())
    return Finding(name="RAPL", state=State.WORKS, text=f"{text}; memory has none")


def _elsewhere(system: str) -> Finding:
    if system == "Darwin" and platform.machine() == "arm64":
        text, hint = "CodeCarbon estimates the CPU of Apple chips by its load, and sees no GPU of theirs", GUESSED
    elif system == "Darwin":
        text = "CodeCarbon asks Intel Power Gadget, or powermetrics where it may use sudo without a password"
        hint = GUESSED
    elif system == "Windows":
        text, hint = "CodeCarbon asks the Energy Meter Interface: Windows 11, on bare metal", GUESSED
    else:
        text, hint = f"no counters are known on {system}", GUESSED
    return Finding(name="RAPL", state=State.ABSENT, text=f"only on Linux; {text}", hints=(hint,))


def _unreadable(trouble: str) -> Finding:
    """The counters are there. Root alone may read them since Linux 5.10; containers hide them, from root too."""
    hidden = [domain for domain in rapl.find_domains() if not domain.folder.exists()]
    if hidden:
        inside = environment.container() or "this container"
        hints = (
            "start it so that it sees them:",
            "$ docker run --security-opt systempaths=unconfined ...",
            "$ podman run --security-opt unmask=/sys/devices/virtual/powercap ...",
        )
        return Finding(name="RAPL", state=State.BROKEN, text=f"hidden by {inside}: {hidden[0].folder}", hints=hints)
    return Finding(name="RAPL", state=State.BROKEN, text=trouble, hints=_permission())


def _permission() -> tuple[str, ...]:
    where = " on the host" if environment.container() else ""
    return (f"now{where}:", OPEN_NOW, f"and after every restart{where}:", OPEN_FOR_GOOD)


def _without_counters() -> Finding:
    guest_of, inside = environment.virtual_machine(), environment.container()
    if guest_of:
        text = f"none: this is a virtual machine ({guest_of}), and the counters are its host's"
        return Finding(name="RAPL", state=State.ABSENT, text=text, hints=(GUESSED,))
    architecture = platform.machine().lower()
    if architecture not in ("x86_64", "amd64", "i686", "i386"):
        text = f"none: only Intel and AMD have it, and this is {architecture}"
        return Finding(name="RAPL", state=State.ABSENT, text=text, hints=(GUESSED,))
    if environment.loaded("intel_rapl_msr"):
        text = "none: the kernel's driver is loaded, and knows no counter of this CPU"
        return Finding(name="RAPL", state=State.ABSENT, text=text, hints=(f"a newer kernel may; {GUESSED}",))
    where = " on the host" if inside else ""
    text = f"none: the kernel's driver intel_rapl_msr (for AMD, too: Linux 5.8) is not loaded{where}"
    hints = (f"now{where}:", LOAD_NOW, f"and after every restart{where}:", LOAD_FOR_GOOD)
    return Finding(name="RAPL", state=State.BROKEN, text=text, hints=hints)


def nvidia_gpus() -> Gpus:
    """What NVML says of every NVIDIA GPU of this machine."""
    try:
        import pynvml
    except ImportError:
        hint = "$ pip install nvidia-ml-py"
        return Gpus(trouble="nvidia-ml-py is not installed", hint=hint) if _on_the_bus(NVIDIA) else Gpus()
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return _without_driver()
    except pynvml.NVMLError as error:
        return Gpus(trouble=f"NVML does not start: {error}", hint=_way_out(error))
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        gpus = Gpus(
            names=tuple(_words(pynvml.nvmlDeviceGetName(handle)) for handle in handles),
            busy_percent=tuple(_busy_percent(pynvml, handle) for handle in handles),
            driver=_words(pynvml.nvmlSystemGetDriverVersion()),
            cuda="{}.{}".format(*divmod(pynvml.nvmlSystemGetCudaDriverVersion() // 10, 100)),
        )
    except pynvml.NVMLError as error:
        return Gpus(trouble=f"a GPU does not answer: {error}", hint=_way_out(error))
    try:
        return replace(gpus, has_counter=tuple(_has_counter(pynvml, handle) for handle in handles))
    except pynvml.NVMLError as error:  # the machine is known by the names of its GPUs, read or not
        return replace(gpus, trouble=f"a GPU's energy counter cannot be read: {error}", hint=_way_out(error))


def _without_driver() -> Gpus:
    if not _on_the_bus(NVIDIA):
        return Gpus()
    hint = "install NVIDIA's driver, and restart"
    if environment.container():
        hint = "start the container with its GPUs: docker run --gpus all ..."
    return Gpus(trouble="an NVIDIA GPU is here, and its driver is not", hint=hint)


def _way_out(error: Exception) -> str:
    if "mismatch" in str(error).lower():
        return "the driver was updated while it ran: restart the machine"
    if "permission" in str(error).lower():
        return "this user, or this container, may not read it: whoever runs the machine can allow it"
    return "`nvidia-smi` says more; a restart may help"


def _has_counter(nvml: Any, handle: Any) -> bool:
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError_NotSupported:
        return False
    return True


def _busy_percent(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        return 0


def _words(text: str | bytes) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def graphics(gpus: Gpus) -> list[Finding]:
    """The GPUs: NVIDIA's by NVML, and those of AMD where there are some."""
    return [_nvidia(gpus), *_amd()]


def _nvidia(gpus: Gpus) -> Finding:
    if gpus.trouble:
        return Finding(name="NVML", state=State.BROKEN, text=gpus.trouble, hints=(gpus.hint,))
    if not gpus.names:
        return Finding(name="NVML", state=State.ABSENT, text="no NVIDIA GPU")
    old = [name for name, has_counter in zip(gpus.names, gpus.has_counter, strict=True) if not has_counter]
    if old:
        text = f"no energy counter on {', '.join(old)}: power is polled, all GPUs are estimated"
        hint = "counters came with Volta (2017), and are not passed on to every virtual machine"
        return Finding(name="NVML", state=State.LIMITED, text=text, hints=(hint,))
    plural = "s" if len(gpus.names) > 1 else ""
    text = f"energy counter{plural} of {', '.join(gpus.names)}; driver {gpus.driver}"
    return Finding(name="NVML", state=State.WORKS, text=text)


def _amd() -> list[Finding]:
    if not _on_the_bus(AMD):
        return []
    if find_spec("amdsmi"):
        text = "an AMD GPU: CodeCarbon polls its power through amdsmi"
        return [Finding(name="AMD GPU", state=State.LIMITED, text=text)]
    text = "an AMD GPU: not counted, as amdsmi is not installed"
    hint = "amdsmi comes with ROCm, in /opt/rocm/share/amd_smi; graphics inside the CPU are counted with it"
    return [Finding(name="AMD GPU", state=State.LIMITED, text=text, hints=(hint,))]


def has_gpu(gpus: Gpus) -> bool:
    """Whether there is a GPU at all, counted or not."""
    return bool(gpus.names or gpus.trouble or _on_the_bus(AMD)) or platform.system() == "Darwin"


def _on_the_bus(maker: str) -> list[Path]:
    """PCI devices of `maker` that draw pictures (class 03) or only compute (12)."""
    return [
        file.parent
        for file in environment.ROOT.glob("sys/bus/pci/devices/*/vendor")
        if environment.read_text(str(file.relative_to(environment.ROOT))) == maker
        and environment.read_text(str(file.with_name("class").relative_to(environment.ROOT))).startswith(
            ("0x03", "0x12")
        )
    ]


def components() -> tuple[Mapping[str, Component], dict[str, Any]]:
    """How a run that starts now would know its joules, and what its meter says of itself; takes 2 to 3 s.

    Raises SensorError where the meter does not start.
    """
    sensor = open_sensor(Settings())
    sensor.start()
    try:
        return sensor.components(), dict(sensor.describe())
    finally:
        sensor.stop()


def torch_build() -> tuple[str, str | None] | None:
    """Version of PyTorch and the CUDA (or ROCm) it was built for, None on a CPU's; None without it. Not imported."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    said = dict(re.findall(r"^(__version__|cuda|hip)\b[^=]*=\s*'([^']*)'", text, re.MULTILINE))
    return said.get("__version__", ""), said.get("cuda") or said.get("hip") or None
