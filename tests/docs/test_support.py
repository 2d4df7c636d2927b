"""The pages on support and upgrades say what the code and its metadata say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from docutils import nodes
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import hybrid_layer
from hybrid_layer.ipc import _core
from hybrid_layer.remote.redis.wire import keys
from hybrid_layer.statistics import KEYS
from tests.docs import texts

SUPPORT, UPGRADING = "docs/support.rst", "docs/upgrading.rst"
PROJECT = tomllib.loads((texts.ROOT / "pyproject.toml").read_text())["project"]


def rows(page: str, title: str) -> Iterator[list[str]]:
    for body in texts.section(page, title).findall(nodes.tbody):
        for row in body.findall(nodes.row):
            yield [cell.astext() for cell in row]


SUPPORTED = {name: (supported, tested) for name, supported, tested in rows(SUPPORT, "Versions")}


def bounds(specifier: SpecifierSet) -> str:
    """As the page writes them."""
    low = next(each.version for each in specifier if each.operator == ">=")
    below = [int(each.version) - 1 for each in specifier if each.operator == "<"]
    return f"{low} to {below[0]}" if below else f"{low} and later"


def test_what_is_supported_is_what_installs() -> None:
    needed = {each.name: each.specifier for each in map(Requirement, PROJECT["dependencies"])}
    del needed["posix-ipc"]  # a detail: no user meets it
    needed["Python"] = SpecifierSet(PROJECT["requires-python"])
    for name, specifier in needed.items():
        assert SUPPORTED[name][0].startswith(bounds(specifier)), name


def test_pythons_are_those_that_are_tested() -> None:
    tested = re.findall(r"3\.\d+", SUPPORTED["Python"][1])
    (line,) = re.findall(r"^PYTHONS = (.*)$", (texts.ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert tested == re.findall(r"3\.\d+", line)
    in_ci = re.findall(r"3\.\d+", SUPPORTED["Python"][1].partition("Release:")[0])
    classifiers = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: Python :: 3." in each]
    assert classifiers == in_ci


def test_this_release_has_its_row() -> None:
    releases = list(rows(UPGRADING, "What each release changes"))
    assert releases[0][:3] == [hybrid_layer.__version__, str(_core.LAYOUT_VERSION), keys.VERSION]


def test_each_release_has_one() -> None:
    changes = re.findall(r"^(\d[\d.]*) \(.*\)$", (texts.ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert changes == [row[0] for row in rows(UPGRADING, "What each release changes")]


def test_counters_to_watch_are_counters() -> None:
    assert {row[0] for row in rows(UPGRADING, "What to watch")} <= set(KEYS)
