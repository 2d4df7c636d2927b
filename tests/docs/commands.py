"""Commands in the texts: taken apart as a shell would, and compared with what they name. The cheap ones are run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import channels
import django

import hybrid_layer
from hybrid_layer.commands.arguments import add_arguments
from tests.docs.texts import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("benchmarks/", "docs/", "examples/", "hybrid_layer/", "tests/")
OTHERS = {"cut", "docker", "export", "grep", "kubectl", "prometheus", "py-spy", "redis-cli", "systemctl", "useradd"}
"""Programs of which only the files are checked that they are given."""
SEPARATORS = {"|", "||", "&", "&&", ";", "(", ")"}


def of(block: str) -> list[list[str]]:
    """The commands in a block, each as its words. Comments are none, and a line that ends with a backslash goes on."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True  # a URI is one word
        for word in lexer:
            if word in SEPARATORS:
                found.append(words)
                words = []
            else:
                words.append(word)
        found.append(words)
    return [words for words in map(without_environment, found) if words]


def without_environment(words: list[str]) -> list[str]:
    """Without the variables that stand before the program, and without sudo."""
    while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "sudo"):
        words = words[1:]
    return words


def mistake(words: list[str]) -> str | None:
    """What is wrong with a command; None if nothing is."""
    for path in re.findall(rf"(?:{'|'.join(FOLDERS)})[\w./*-]*", " ".join(words)):
        if not ROOT.joinpath(path).exists():
            return f"there is no {path}"
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program in OTHERS or ROOT.joinpath(program).is_file():
        return None
    check = CHECKS.get(program)
    return check(arguments) if check else f"{program} is a program that no test knows: see {Path(__file__).name}"


def _make(arguments: list[str]) -> str | None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {argument for argument in arguments if "=" not in argument} - targets
    return f"there is no target {', '.join(unknown)}" if unknown else None


def _pip(arguments: list[str]) -> str | None:
    groups = set(PROJECT["dependency-groups"])
    extras = set(PROJECT["project"]["optional-dependencies"])
    for before, argument in pairwise(["", *arguments]):
        if before == "--group" and argument not in groups:
            return f"there is no group {argument}"
        named = re.search(r"^(?:hybrid_layer|\.)\[(.*)\]", argument)
        if named and not extras.issuperset(named[1].split(",")):
            return f"there is no extra {named[1]}"
    return None


def _python(arguments: list[str]) -> str | None:
    match arguments:
        case ["-c", *_]:
            return _failure(*arguments)
        case ["-m", "pytest", *_] | ["-m", "pip", *_]:
            return None
        case ["-m", "hybrid_layer.remote.redis.scripts", *_]:
            return _failure(*arguments)
        case ["-m", "hybrid_layer", *own]:
            return _refusal(own, of_site=False)
        case ["-m", module, *options]:
            return _options(("-m", module), options)
        case ["manage.py", "channel_layer", *own]:
            return _refusal(own, of_site=True)
        case ["manage.py", command, *_]:
            return None if _is_command(command) else f"there is no command {command}"
        case _:
            return None  # a file, of which it is known by now whether it is there


def _nox(arguments: list[str]) -> str | None:
    sessions = (ROOT / "noxfile.py").read_text()
    tags = [after for option, after in pairwise(arguments) if option == "--tags"]
    unknown = [tag for tag in tags if f'tags=["{tag}"]' not in sessions]
    return f"there is no tag {unknown[0]}" if unknown else None


CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "make": _make,
    "nox": _nox,
    "pip": _pip,
    "python": _python,
    "python3": _python,
}


def _is_command(name: str) -> bool:
    packages = [Path(str(module.__file__)).parent for module in (channels, django, hybrid_layer)]
    folders = [*packages, packages[1] / "core", *(packages[1] / "contrib").iterdir(), ROOT / "examples/chat/chat"]
    return any((folder / "management/commands" / f"{name}.py").exists() for folder in folders)


def _refusal(arguments: list[str], *, of_site: bool) -> str | None:
    """What the project's own command says of its arguments."""
    parser, said = ArgumentParser(), io.StringIO()
    add_arguments(parser, of_site)
    try:
        with contextlib.redirect_stderr(said):
            parser.parse_args(arguments)
    except SystemExit:
        return said.getvalue()
    return None


def _options(program: tuple[str, ...], options: list[str]) -> str | None:
    """Of a program of this project: those that it does not name in its help."""
    code, text = _help(program)
    if code:
        return text
    unknown = [option for option in options if option.startswith("--") and option not in re.findall(r"--[\w-]+", text)]
    return f"it has no option {unknown[0]}" if unknown else None


@cache
def _help(program: tuple[str, ...]) -> tuple[int, str]:
    done = _run(*program, "--help")
    return done.returncode, done.stdout + done.stderr


def _failure(*arguments: str) -> str | None:
    done = _run(*arguments)
    return done.stderr or f"it ends with {done.returncode}" if done.returncode else None


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
