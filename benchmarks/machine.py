"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "hybrid_layer",
    "channels",
    "channels_redis",
    "channels_valkey",
    "asgiref",
    "redis",
    "valkey",
    "hiredis",
    "msgpack",
)


def machine() -> dict[str, str]:
    """What it is, in words."""
    return {
        "processor": _processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(),
    }


def versions(server: str) -> dict[str, str]:
    """Of all that takes part. `server` says its own."""
    found = {"python": platform.python_version(), "server": server}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def load() -> str:
    """How busy the machine was in the last minute: on a busy one the figures of all suffer, and the ratios say less."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
