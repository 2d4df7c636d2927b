"""What is published, and when: the workflow, the matrix of wheels, and what a release must say first."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from setuptools import Distribution

from tests.packaging.test_build import ROOT, arguments_of_setup

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW = ROOT / ".github/workflows/release.yml"

READY = """
[project]
maintainers = [{ name = "Ada", email = "ada@example.org" }]

[project.urls]
Changelog = "https://example.org/changes"
Documentation = "https://example.org/docs"
Issues = "https://example.org/issues"
Source = "https://example.org/source"
"""


@pytest.fixture
def missing(tmp_path: Path) -> Callable[..., list[str]]:
    """What release_ready.py finds missing, with texts changed as a dict says."""

    def missing(changes: dict[str, str], tag: str | None = None) -> list[str]:
        (tmp_path / "hybrid_layer").mkdir(exist_ok=True)
        texts = {
            "pyproject.toml": READY,
            "hybrid_layer/__init__.py": '__version__ = "1.2.3"\n',
            "CHANGELOG.rst": "Changelog\n=========\n\n1.2.3 (2027-12-31)\n------------------\n",
        }
        for name, text in texts.items():
            for old, new in changes.items():
                text = text.replace(old, new)
            (tmp_path / name).write_text(text)
        found: list[str] = runpy.run_path(str(ROOT / ".ci/release_ready.py"))["missing"](tmp_path, tag)
        return found

    return missing


def test_a_release_that_says_everything(missing: Callable[..., list[str]]) -> None:
    assert missing({}) == []
    assert missing({}, "v1.2.3") == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({', email = "ada@example.org"': ""}, "maintainers"),
        ({"maintainers": "# maintainers"}, "maintainers"),
        ({"https://example.org/issues": ""}, "Issues"),
        ({"Source =": "Origin ="}, "Source"),
        ({"(2027-12-31)": "(unreleased)"}, "CHANGELOG.rst: 1.2.3"),
        ({"__version__ = \"1.2.3\"": "__version__ = \"1.3\""}, "CHANGELOG.rst: 1.3"),
    ],
)  # fmt: skip
def test_what_a_release_does_not_say(missing: Callable[..., list[str]], changes: dict[str, str], named: str) -> None:
    (todo,) = missing(changes)
    assert named in todo


def test_a_tag_is_the_version(missing: Callable[..., list[str]]) -> None:
    (todo,) = missing({}, "v1.2.4")
    assert "v1.2.4" in todo


def test_no_release_is_built_from_a_tree_that_is_not_ready(tmp_path: Path) -> None:
    """`make wheels RELEASE=1` ends at this program, before anything is built."""
    for name in (".ci/release_ready.py", "hybrid_layer/__init__.py", "CHANGELOG.rst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text("[project]\nmaintainers = []\n")
    program = [sys.executable, tmp_path / ".ci/release_ready.py"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Not ready for a release:\n  pyproject.toml: maintainers")
    assert re.search(r"^wheels:.*\n\t\$\(if \$\(RELEASE\),\S+ .ci/release_ready.py\)$", makefile(), re.MULTILINE)


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


def test_the_wheel_for_windows_is_for_windows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its one extension, which is optional there, could not be compiled: never `any`."""
    monkeypatch.setattr(sys, "platform", "win32")
    arguments = arguments_of_setup(monkeypatch)
    monkeypatch.undo()
    command: Any = Distribution({"ext_modules": arguments["ext_modules"]}).get_command_obj("bdist_wheel")
    command.plat_name, command.py_limited_api = "win-amd64", arguments["options"]["bdist_wheel"]["py_limited_api"]
    command.finalize_options()
    assert command.get_tag() == ("cp311", "abi3", "win_amd64")


def test_the_workflow_is_one() -> None:
    schema = ("--builtin-schema", "vendor.github-workflows")
    program = [sys.executable, "-m", "check_jsonschema", *schema, WORKFLOW]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_publishing_job_may_write() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write", "attestations": "write"}
    assert set(jobs["publish"]["needs"]) == {"wheels", "sdist", "sbom"}
    assert "secrets." not in WORKFLOW.read_text()
    assert {runner.split("-")[0] for runner in jobs["wheels"]["strategy"]["matrix"]["runner"]} == {
        "macos",
        "ubuntu",
        "windows",
    }


def test_wheels_are_used_on_every_python_that_is_supported() -> None:
    on_python = {f"cp{version.replace('.', '')}-*" for version in pythons()}
    assert set(PYPROJECT["tool"]["cibuildwheel"]["build"]) == on_python


def pythons() -> list[str]:
    (line,) = re.findall(r"^PYTHONS = (.*)$", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    return re.findall(r"3\.\d+", line)
