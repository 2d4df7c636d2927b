"""Programs from the core's files and those in `core/`, without Python."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ipc.tools import CORE

HERE = Path(__file__).parent / "core"
FLAGS = ("-std=c11", "-g", "-pthread", f"-I{CORE}", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")


def cc(*arguments: str | Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    done = subprocess.run([compiler, *FLAGS, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def compile_all(sources: Iterable[Path], directory: Path, *flags: str) -> list[Path]:
    """The object files of C files, which are compiled side by side."""
    pairs = [(source, directory / f"{source.stem}.o") for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda pair: cc(*flags, "-c", pair[0], "-o", pair[1]), pairs))
    return [object for _, object in pairs]


def link(program: Path, objects: Iterable[Path], *flags: str) -> Path:
    cc(*flags, *objects, "-o", program)
    return program


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The directory that `make` has filled: once for a test run, however many workers it has."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "is_made").exists():
            directory.mkdir(exist_ok=True)
            make(directory)
            (directory / "is_made").touch()
    return directory


def run(*words: object, timeout: float = 100, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    # What is preloaded would come before a sanitizer, which wants to be first.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment, cwd=cwd
    )
