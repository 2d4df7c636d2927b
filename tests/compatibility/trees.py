"""The tree before this one, which PREVIOUS names: from git's history, compiled once for each commit."""

from __future__ import annotations

import fcntl
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREVIOUS = Path(__file__).with_name("PREVIOUS")
PARTS = ("LICENSE", "README.rst", "pyproject.toml", "setup.py", "hybrid_layer")


class NoHistory(AssertionError):
    """This is no clone, or a shallow one."""


def previous(root: Path = ROOT) -> Path:
    """The earlier tree, ready to be imported from."""
    commit = PREVIOUS.read_text().strip()
    builds = root / "build" / "previous"
    builds.mkdir(parents=True, exist_ok=True)
    with (builds / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a test run come together
        tree = builds / commit
        if not tree.exists():
            unpacked = builds / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            unpack(root, commit, unpacked)
            command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
            subprocess.run(command, cwd=unpacked, check=True, capture_output=True)
            unpacked.rename(tree)
        return tree


def unpack(root: Path, commit: str, folder: Path) -> None:
    archive = subprocess.run(["git", "-C", root, "archive", commit, *PARTS], capture_output=True, check=False)
    if archive.returncode:
        raise NoHistory(
            f"tests/compatibility/PREVIOUS names commit {commit[:10]}, and git has no such commit here: these tests "
            f"need a clone with its history (git fetch --unshallow). git says: {archive.stderr.decode().strip()}"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
