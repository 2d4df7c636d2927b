"""Builds the C core, and compiles some modules that are Python; all the rest of the build is in pyproject.toml.

Flags of one's own go the usual way: `CFLAGS=-Werror python setup.py build_ext --inplace`. On systems other than Linux,
or with HYBRID_LAYER_PORTABLE=1 in the environment, it is the portable build: no futex, no /dev/shm.

mypyc makes machine code of modules as they are, by their types. Nothing depends on that but speed: with
HYBRID_LAYER_INTERPRETED=1 in the environment, say for a debugger, they stay Python.
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

COMPILED = ("inbox", "waiters")
"""Modules of what runs for each member that a group's message reaches."""
GROUP = "hybrid_layer"
"""Names what they share, ``hybrid_layer__mypyc``. Beside the package, as mypyc takes the modules' paths from there."""

COMPILER_NEEDED = f"""\
hybrid_layer cannot be built here: {{problem}}.

Its local half is written in C, so that an installation from source needs a C compiler, the headers of the C library
and those of Python {sys.version_info.major}.{sys.version_info.minor}:
  Debian, Ubuntu  apt install gcc libc6-dev python3-dev
  Fedora, RHEL    dnf install gcc glibc-devel python3-devel
  Alpine          apk add gcc musl-dev linux-headers python3-dev
or the name of another compiler in the environment variable CC. A wheel needs none of them.
"""

MYPY_NEEDED = """\
hybrid_layer cannot be built here: some of its modules are compiled by mypyc, and mypy is not installed.

Let pip install what a build needs (without --no-build-isolation), or install it: pip install 'mypy>=2.4,<2.5'. With
HYBRID_LAYER_INTERPRETED=1 in the environment nothing is compiled, and groups are slower.
"""

# Free-threaded builds of CPython have no stable ABI yet: there, the extension is for the one version that compiles it.
# And what mypyc makes relies on the lock that they do without.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


def is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


COMPILES = STABLE_ABI and not is_set("HYBRID_LAYER_INTERPRETED")


class Build(build_ext):
    """Tries the compiler on three lines first, so that a machine without one gets a sentence and no stack trace."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # what is there may be the other of the two builds, and looks up to date

    def run(self) -> None:
        # Left over from another build, these would be taken for this one's, although the source has changed or nothing
        # is to be compiled.
        for extension in compiled():
            file = self.get_ext_filename(extension.name)
            Path(self.build_lib, file).unlink(missing_ok=True)
            if self.inplace:
                Path(file).unlink(missing_ok=True)
        super().run()

    def build_extensions(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            probe = Path(directory, "probe.c")
            probe.write_text("#include <stdio.h>\n#include <Python.h>\nint main(void) { return 0; }\n")
            try:
                self.compiler.compile([str(probe)], output_dir=directory)
            except (BaseError, CCompilerError) as problem:
                raise SystemExit(COMPILER_NEEDED.format(problem=problem)) from None
        if COMPILES:
            self.translate()
        super().build_extensions()

    def translate(self) -> None:
        """Have mypyc turn Python into C. Only here: whoever asks for names and sources need not wait for it."""
        try:
            from mypyc.build import mypycify
        except ImportError:
            raise SystemExit(MYPY_NEEDED) from None
        # Errors of types are for `make lint`, where what the package needs is there to be looked at.
        options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        options += [f"--cache-dir={self.build_temp}/mypy"]
        translated = mypycify(
            [*options, *map(source_of, COMPILED)],
            opt_level="2",
            debug_level="0",
            target_dir=self.build_temp,
            group_name=GROUP,
        )
        made = {extension.name: extension for extension in translated}
        for extension in self.extensions:
            if extension.name in made:
                c = made.pop(extension.name)
                extension.sources, extension.include_dirs = c.sources, c.include_dirs
                # Whoever builds this has another compiler, which may warn of more.
                extension.extra_compile_args = [flag for flag in c.extra_compile_args if flag != "-Werror"]
        assert not made, f"{sorted(made)} would be missing"


def is_portable() -> bool:
    """Whether the core does without what only Linux has: the folder `portable` instead of the folder `linux`."""
    return sys.platform != "linux" or is_set("HYBRID_LAYER_PORTABLE")


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


def source_of(module: str) -> str:
    return f"hybrid_layer/{module}.py"


def compiled() -> list[Extension]:
    """By the names that mypyc will give them."""
    modules = [Extension(f"hybrid_layer.{module}", [source_of(module)]) for module in COMPILED]
    return [Extension(f"{GROUP}__mypyc", list(map(source_of, COMPILED))), *modules]


setup(
    # On Windows the package installs without its local half, and the remote classes work.
    ext_modules=[] if sys.platform == "win32" else [core(), *(compiled() if COMPILES else [])],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI and not COMPILES else {},
)
