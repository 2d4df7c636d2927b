"""What `setup.py` builds, and what it says where it cannot."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import setuptools

import hybrid_layer
from hybrid_layer import inbox, waiters

ROOT = Path(__file__).parents[2]


def arguments_of_setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return seen


def test_core_is_for_the_stable_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    extension, *_ = arguments_of_setup(monkeypatch)["ext_modules"]
    assert extension.name == "hybrid_layer.ipc._core"
    assert extension.py_limited_api
    assert {Path(source).suffix for source in extension.sources} == {".c"}


def test_some_modules_are_compiled_for_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_LAYER_INTERPRETED", raising=False)
    arguments = arguments_of_setup(monkeypatch)
    _, library, *modules = arguments["ext_modules"]
    assert {f"hybrid_layer.{Path(source).stem}" for source in library.sources} == {each.name for each in modules}
    assert not arguments["options"]
    # Make builds anew when one of them has changed.
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("COMPILED := ")]
    assert sorted(line.split()[2:]) == sorted(library.sources)


@pytest.mark.parametrize("reason", ["asked", "free-threaded"])
def test_without_them_the_wheel_is_for_all_versions(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == "asked":
        monkeypatch.setenv("HYBRID_LAYER_INTERPRETED", "1")
    else:
        monkeypatch.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED")
    arguments = arguments_of_setup(monkeypatch)
    [extension] = arguments["ext_modules"]
    assert extension.name == "hybrid_layer.ipc._core"
    assert extension.py_limited_api == (reason == "asked")
    assert bool(arguments["options"]) == (reason == "asked")


def test_what_is_tested_here_is_compiled_unless_asked_otherwise() -> None:
    is_interpreted = os.environ.get("HYBRID_LAYER_INTERPRETED", "0") not in ("", "0")
    for module in (inbox, waiters):
        assert str(module.__file__).endswith(".py") == is_interpreted


@pytest.mark.parametrize(
    ("platform", "flag", "folder"),
    [
        ("linux", "", "linux"),
        ("linux", "0", "linux"),
        ("linux", "1", "portable"),
        ("darwin", "", "portable"),
        ("freebsd14", "0", "portable"),
    ],
)
def test_which_of_the_two_cores(monkeypatch: pytest.MonkeyPatch, platform: str, flag: str, folder: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HYBRID_LAYER_PORTABLE", flag)
    extension, *_ = arguments_of_setup(monkeypatch)["ext_modules"]
    folders = [Path(source).parent.name for source in extension.sources]
    assert set(folders) == {"_core", folder}
    names = sorted(Path(source).name for source in extension.sources if Path(source).parent.name == folder)
    assert names == ["exclusion.c", "memory.c"]


def test_a_core_that_is_there_may_be_the_other_one(tmp_path: Path) -> None:
    """It looks up to date, and is built all the same."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *portable/exclusion.c*) echo "the portable one"; exit 1;; esac\n')
    compiler.chmod(0o755)
    built = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/hybrid_layer/ipc/_core.abi3.so"
    (copy_sources(tmp_path) / built).parent.mkdir(parents=True)
    (copy_sources(tmp_path) / built).touch()
    assert "the portable one" in build(tmp_path, CC=str(compiler), HYBRID_LAYER_PORTABLE="1")


def test_windows_gets_no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert arguments_of_setup(monkeypatch)["ext_modules"] == []


def test_no_compiler_is_a_sentence_that_names_the_remedy(tmp_path: Path) -> None:
    answer = build(tmp_path, CC=str(tmp_path / "no-such-compiler"))
    assert "needs a C compiler" in answer
    assert "no-such-compiler" in answer
    assert "apt install gcc libc6-dev python3-dev" in answer


def test_a_compiler_without_headers_is_the_same_sentence(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'Python.h: No such file or directory' >&2\nexit 1\n")
    compiler.chmod(0o755)
    answer = build(tmp_path, CC=str(compiler))
    assert "Python.h: No such file" in answer
    assert "the headers of the C library\nand those of Python" in answer


def test_nothing_compiled_is_left_over_where_nothing_is_to_be_compiled(tmp_path: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    copy = copy_sources(tmp_path)
    left = [copy / place / f"hybrid_layer/inbox{suffix}" for place in ("", built)]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    build(tmp_path, CC="no-such-compiler")
    assert not any(file.exists() for file in left)


def test_no_mypy_is_a_sentence_that_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "mypyc").mkdir()
    (tmp_path / "mypyc/__init__.py").write_text("raise ImportError('there is none')")
    answer = build(tmp_path, HYBRID_LAYER_INTERPRETED="0", PYTHONPATH=str(tmp_path))
    assert "mypy is not installed" in answer
    assert "pip install 'mypy" in answer


def test_incomplete_sources_are_named(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    for file in (tmp_path / "source/hybrid_layer/ipc/_core").glob("*.c"):
        file.unlink()
    assert "no C file is in hybrid_layer/ipc/_core" in build(tmp_path)


def test_the_version_is_written_once() -> None:
    assert metadata.version("hybrid_layer") == hybrid_layer.__version__


def copy_sources(directory: Path) -> Path:
    copy = directory / "source"
    if not copy.exists():
        copy.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.rst", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "hybrid_layer", copy / "hybrid_layer", ignore=shutil.ignore_patterns("*.so"))
    return copy


def build(directory: Path, **environment: str) -> str:
    """Everything that a build that must fail printed; never a stack trace."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=copy_sources(directory),
        env={"PATH": "/usr/bin:/bin", "HYBRID_LAYER_INTERPRETED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout
