"""Builds what is written in C: the core of the local half, and the inbox; all the rest is in pyproject.toml.

Flags of one's own go the usual way: `CFLAGS=-Werror python setup.py build_ext --inplace`. On systems other than Linux,
or with HYBRID_LAYER_PORTABLE=1 in the environment, it is the portable build: no futex, no /dev/shm.
"""

import os
import sys
import sysconfig
import tempfile
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

CORE = "hybrid_layer/ipc/_core"
INBOX = "hybrid_layer/_inbox"

COMPILER_NEEDED = f"""\
hybrid_layer cannot be built here: {{problem}}.

Its local half is written in C, so that an installation from source needs a C compiler, the headers of the C library
and those of Python {sys.version_info.major}.{sys.version_info.minor}:
  Debian, Ubuntu  apt install gcc libc6-dev python3-dev
  Fedora, RHEL    dnf install gcc glibc-devel python3-devel
  Alpine          apk add gcc musl-dev linux-headers python3-dev
or the name of another compiler in the environment variable CC. A wheel needs none of them.
"""

# Free-threaded builds of CPython have no stable ABI yet: there, an extension is for the one version that compiles it.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")
ON_WINDOWS = sys.platform == "win32"


class Build(build_ext):
    """Tries the compiler on three lines first, so that a machine without one gets a sentence and no stack trace."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # what is there may be the other of the two cores, and looks up to date

    def build_extensions(self) -> None:
        if not ON_WINDOWS:
            self.try_compiler()
        super().build_extensions()

    def try_compiler(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            probe = os.path.join(directory, "probe.c")
            with open(probe, "w") as file:
                file.write("#include <stdio.h>\n#include <Python.h>\nint main(void) { return 0; }\n")
            try:
                self.compiler.compile([probe], output_dir=directory)
            except (BaseError, CCompilerError) as problem:
                raise SystemExit(COMPILER_NEEDED.format(problem=problem)) from None


def is_portable() -> bool:
    """Whether the core does without what only Linux has: the folder `portable` instead of the folder `linux`."""
    return sys.platform != "linux" or os.environ.get("HYBRID_LAYER_PORTABLE", "0") not in ("", "0")


def extension(name: str, directory: str, more: str = "", optional: bool = False) -> Extension:
    """The files of `directory`, with those of its folder `more`."""
    sources = glob(f"{directory}/*.c")
    if not sources:
        raise SystemExit(f"hybrid_layer cannot be built here: the sources are incomplete, no C file is in {directory}")
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
    return Extension(
        name,
        sources=sorted(sources + (glob(f"{directory}/{more}/*.c") if more else [])),
        include_dirs=[directory],
        depends=sorted(glob(f"{directory}/*.h")),
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else [],
        py_limited_api=STABLE_ABI,
        extra_compile_args=[] if ON_WINDOWS else ["-O2", "-std=c11", "-pthread", "-fvisibility=hidden", *warnings],
        extra_link_args=[] if ON_WINDOWS else ["-pthread"],
        optional=optional,
    )


def extensions() -> list[Extension]:
    # On Windows the package installs without its local half, and the remote classes work; without a compiler, too.
    inbox = extension("hybrid_layer._inbox", INBOX, optional=ON_WINDOWS)
    if ON_WINDOWS:
        return [inbox]
    return [extension("hybrid_layer.ipc._core", CORE, "portable" if is_portable() else "linux"), inbox]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
