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
from hybrid_layer import inbox

ROOT = Path(__file__).parents[2]


def arguments_of_setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return seen


def test_extensions_are_for_the_stable_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wheel of a platform is for all versions of Python."""
    arguments = arguments_of_setup(monkeypatch)
    assert {extension.name for extension in arguments["ext_modules"]} == {
        "hybrid_layer.ipc._core",
        "hybrid_layer._inbox",
    }
    for extension in arguments["ext_modules"]:
        assert extension.py_limited_api
        assert not extension.optional
        assert {Path(source).suffix for source in extension.sources} == {".c"}
    assert arguments["options"] == {"bdist_wheel": {"py_limited_api": "cp311"}}


def test_free_threaded_python_has_no_stable_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED")
    arguments = arguments_of_setup(monkeypatch)
    assert not any(extension.py_limited_api for extension in arguments["ext_modules"])
    assert not arguments["options"]


def test_what_is_tested_here_is_the_extension_unless_asked_otherwise() -> None:
    is_interpreted = os.environ.get("HYBRID_LAYER_INTERPRETED", "0") not in ("", "0")
    for name in inbox.__all__:
        module = getattr(inbox, name).__module__
        assert module.startswith("hybrid_layer.interpreted" if is_interpreted else "hybrid_layer._inbox")


@pytest.mark.parametrize("reason", ["asked", "not built"])
def test_its_twin_serves_where_it_is_not(reason: str) -> None:
    code = "from hybrid_layer import inbox; print(inbox.Inbox.__module__)"
    if reason == "not built":
        code = f"import sys; sys.modules['hybrid_layer._inbox'] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "HYBRID_LAYER_INTERPRETED": str(int(reason == "asked"))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "hybrid_layer.interpreted.inbox"


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


def test_windows_gets_the_inbox_if_it_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    [extension] = arguments_of_setup(monkeypatch)["ext_modules"]
    assert extension.name == "hybrid_layer._inbox"
    assert extension.optional


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
        env={"PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout
