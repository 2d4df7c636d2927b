"""`hybrid_layer.types`, as mypy sees it, and the classes behind it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_layer.base import BaseLayer
from hybrid_layer.types import ChannelLayer

HERE = Path(__file__).parent
METHODS = [name for name, what in vars(ChannelLayer).items() if inspect.isfunction(what) and not name.startswith("_")]


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(HERE.parents[1] / ".mypy_cache"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=HERE.parents[1])


@pytest.mark.once
@pytest.mark.timeout(300)
def test_each_class_is_a_channel_layer(tmp_path: Path) -> None:
    done = mypy(HERE / "typed_layers.py")
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong_layers.py"
    wrong.write_text((HERE / "typed_layers.py").read_text().replace("expiry=2", "expiry='2'"))
    assert "arg-type" in mypy(wrong).stdout


@pytest.mark.parametrize("name", METHODS)
def test_parameters(name: str) -> None:
    of_protocol, of_class = (
        [(each.name, each.kind) for each in inspect.signature(vars(owner)[name]).parameters.values()]
        for owner in (ChannelLayer, BaseLayer)
    )
    assert of_protocol == of_class


def test_it_has_all_public_methods() -> None:
    public = {name for name, what in vars(BaseLayer).items() if inspect.isfunction(what) and not name.startswith("_")}
    assert public == {*METHODS}
