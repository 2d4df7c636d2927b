"""Builds dist/: the sdist, and from it a wheel for each kind of Linux, all on this one machine.

One wheel serves every Python from 3.11 on (abi3). zig's compiler brings the libraries of all targets, old glibc as well
as musl, so that a wheel works on systems much older than this one. Each wheel is then checked: what it needs of the
system (auditwheel), what it uses of Python (abi3audit), and its metadata (twine).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DIST = ROOT / "dist"
WORK = ROOT / "build" / "wheels"

# Not those of this Python: they may be gcc's, and lead to its own libraries (-rpath).
COMPILE = "-g0 -fno-sanitize=undefined -Wno-macro-redefined"
LINK = "-s"


class Target(NamedTuple):
    zig: str
    built: str
    """The tag of the platform at first."""
    tag: str
    """And in the end."""
    libraries: set[str]
    """Those of the system that it may need."""


GLIBC = {"libc.so.6", "libpthread.so.0"}
MUSL = {"libc.so"}  # musl's loader takes every name of a C library for itself
TARGETS = [
    Target("x86_64-linux-gnu.2.17", "linux_x86_64", "manylinux_2_17_x86_64", GLIBC),
    Target("aarch64-linux-gnu.2.17", "linux_aarch64", "manylinux_2_17_aarch64", GLIBC),
    Target("x86_64-linux-musl", "musllinux_1_2_x86_64", "musllinux_1_2_x86_64", MUSL),
    Target("aarch64-linux-musl", "musllinux_1_2_aarch64", "musllinux_1_2_aarch64", MUSL),
]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """With the programs of this environment; say nothing unless it fails."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")


def headers() -> Path:
    """Debian has a pyconfig.h for each machine, in folders of the system's compiler. All targets are alike in it."""
    folder = WORK / "include"
    for machine in ("x86_64", "aarch64"):
        place = folder / f"{machine}-linux-gnu" / f"python{sysconfig.get_python_version()}"
        place.mkdir(parents=True)
        shutil.copy(sysconfig.get_config_h_filename(), place)
    return folder


def build_wheel(sdist: Path, target: Target, include: Path) -> Path:
    """The wheel of that target, which has its final name."""
    folder = WORK / target.zig
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    compiler = f"{shlex.quote(sys.executable)} -m ziglang cc -target {target.zig}"
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder),
        f"--config-setting=--build-option=--plat-name={target.built}",
        cwd=folder / sdist.name.removesuffix(".tar.gz"),
        CC=compiler,
        LDSHARED=f"{compiler} -shared",
        CFLAGS=f"{COMPILE} -I{shlex.quote(str(include))}",
        LDFLAGS=LINK,
    )
    (built,) = folder.glob("*.whl")
    if target.built == target.tag:
        shutil.copy(built, DIST)
    else:
        run("auditwheel", "repair", "--plat", "auto", "--wheel-dir", DIST, built)
    (wheel,) = DIST.glob(f"*-cp311-abi3-*{target.tag}*.whl")
    return wheel


def check(wheel: Path, target: Target) -> None:
    """It needs no more of Python and of the system than its name says, and looks for nothing in our folders."""
    run("abi3audit", "--strict", wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        assert len(names) == 2, names
        for name in names:
            with archive.open(name) as file:
                dynamic = ELFFile(file).get_section_by_name(".dynamic")
                needed = {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}
                paths = [tag for kind in ("DT_RPATH", "DT_RUNPATH") for tag in dynamic.iter_tags(kind)]
            assert needed <= target.libraries, f"{wheel.name}: {name} needs {needed}"
            assert not paths, f"{wheel.name}: {name} has a path to libraries: {paths}"


def main() -> None:
    for folder in (DIST, WORK):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST)
    (sdist,) = DIST.iterdir()
    include = headers()
    for target in TARGETS:
        wheel = build_wheel(sdist, target, include)
        check(wheel, target)
        print(f"{wheel.name}: {wheel.stat().st_size / 1000:.0f} kB", flush=True)
    run("twine", "check", "--strict", *DIST.iterdir())


if __name__ == "__main__":
    main()
