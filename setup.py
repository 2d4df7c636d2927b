"""Builds the C core of the local half; all the rest of the build is in pyproject.toml.

Flags of one's own go the usual way: `CFLAGS=-Werror python setup.py build_ext --inplace`. On systems other than Linux,
or with HYBRID_LAYER_PORTABLE=1 in the environment, it is the portable build: no futex, no /dev/shm.
"""

import os
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

CORE = "hybrid_layer/ipc/_core"

COMPILER_NEEDED = f"""\
hybrid_layer cannot be built here: {{problem}}.

Its local half is written in C, so that an installation from source needs a C compiler, the headers of the C library
and those of Python {sys.version_info.major}.{sys.version_info.minor}:
  Debian, Ubuntu  apt install gcc libc6-dev python3-dev
  Fedora, RHEL    dnf install gcc glibc-devel python3-devel
  Alpine          apk add gcc musl-dev linux-headers python3-dev
or the name of another compiler in the environment variable CC. A wheel needs none of them.
"""

# Free-threaded builds of CPython have no stable ABI yet: there, the extension is for the one version that compiles it.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildCore(build_ext):
    """Tries the compiler on three lines first, so that a machine without one gets a sentence and no stack trace."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # what is there may be the other of the two builds, and looks up to date

    def build_extensions(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            probe = Path(directory, "probe.c")
            probe.write_text("#include <stdio.h>\n#include <Python.h>\nint main(void) { return 0; }\n")
            try:
                self.compiler.compile([str(probe)], output_dir=directory)
            except (BaseError, CCompilerError) as problem:
                raise SystemExit(COMPILER_NEEDED.format(problem=problem)) from None
        super().build_extensions()


def is_portable() -> bool:
    """Whether the core does without what only Linux has: the folder `portable` instead of the folder `linux`."""
    return sys.platform != "linux" or os.environ.get("HYBRID_LAYER_PORTABLE", "0") not in ("", "0")


def core() -> Extension:
    sources = glob(f"{CORE}/*.c")
    if not sources:
        raise SystemExit(f"hybrid_layer cannot be built here: the sources are incomplete, no C file is in {CORE}")
    return Extension(
        "hybrid_layer.ipc._core",
        sources=sorted(sources + glob(f"{CORE}/{'portable' if is_portable() else 'linux'}/*.c")),
        include_dirs=[CORE],
        depends=sorted(glob(f"{CORE}/*.h")),
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else [],
        py_limited_api=STABLE_ABI,
        extra_compile_args=[
            "-O2",
            "-std=c11",
            "-pthread",
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            "-Wshadow",
            "-Wconversion",
        ],
        extra_link_args=["-pthread"],
    )


setup(
    # On Windows the package installs without its local half, and the remote classes work.
    ext_modules=[] if sys.platform == "win32" else [core()],
    cmdclass={"build_ext": BuildCore},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
