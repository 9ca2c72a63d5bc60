"""The machine that a speed is of."""

import os
import platform
import re
import time
from pathlib import Path

from .. import llama


def machine(gpus: int) -> dict:
    """What decides a speed, and nothing that names the machine.

    Returns:
        `cpu`, `cores` that may be used, `memory_bytes`, `gpus` (kinds, where they are used).
    """
    found = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.M)
    return {
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": _memory("MemTotal"),
        "gpus": llama.devices() if gpus else [],
    }


def available_bytes() -> int:
    """Bytes of memory that can be had without swapping; 0 where the system does not say."""
    return _memory("MemAvailable")


class Others:
    """How busy other programs keep the cores that this process may use, from now on."""

    def __init__(self):
        self._before = self._now()

    def cores(self) -> float | None:
        """So many cores on average; None where the system does not say."""
        (begin, busy_before, own_before), (end, busy, own) = self._before, self._now()
        if busy is None or end <= begin:
            return None
        return max(0.0, (busy - busy_before - (own - own_before)) / (end - begin))

    def _now(self) -> tuple[float, float | None, float]:
        """The time, and seconds of all on these cores and of this process, all threads together."""
        return time.monotonic(), _busy_seconds(), time.process_time()


def _busy_seconds() -> float | None:
    """Seconds in which the cores of this process did something; see proc_stat(5)."""
    mine, total = os.sched_getaffinity(0), 0
    lines = re.findall(r"^cpu(\d+) (.+)$", _read("/proc/stat"), re.M)
    for number, times in lines:
        if int(number) in mine:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, times.split())
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK") if total else None


def _memory(name: str) -> int:
    found = re.search(rf"^{name}: +(\d+) kB$", _read("/proc/meminfo"), re.M)
    return int(found[1]) << 10 if found else 0


def _read(path: str) -> str:
    path = Path(path)
    return path.read_text(encoding="utf-8") if path.exists() else ""
