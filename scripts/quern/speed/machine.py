"""The machine that a speed is of."""

import os
import platform
import re
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


def _memory(name: str) -> int:
    found = re.search(rf"^{name}: +(\d+) kB$", _read("/proc/meminfo"), re.M)
    return int(found[1]) << 10 if found else 0


def _read(path: str) -> str:
    path = Path(path)
    return path.read_text(encoding="utf-8") if path.exists() else ""
