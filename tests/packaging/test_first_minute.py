"""What a stranger does first: `make demo` in a fresh clone, or the container that is made for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.packaging.test_build import ROOT
from tests.support.child import Child
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

PARTS = ("Makefile", "pyproject.toml", "setup.py", "README.rst", "LICENSE", "hybrid_layer", "examples")
SECONDS = 110
"""At most, on a busy machine that downloads everything. Alone, with pip's cache, it is about twenty."""


@pytest.mark.thorough
def test_make_demo_sets_up_what_the_demo_needs_and_says_what_it_does(tmp_path: Path, prefix: str) -> None:
    clone, output, port = tmp_path / "clone", tmp_path / "output", free_port()
    clone.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, clone / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(source, clone)
    environment = {**os.environ, "PORT": str(port), "HYBRID_LAYER_PREFIX": prefix}
    for name in ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH"):
        environment.pop(name, None)
    child = Child(["make", "--directory", str(clone), "demo"], output=output, environment=environment)
    try:
        url = f"http://{HOST}:{port}"
        block_until(lambda: f"Chat: {url}" in output.read_text() or not child.running, "it is ready", SECONDS)
        text = output.read_text()
        assert child.running, text
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.status == 200
        assert text.index("--- .venv:") < text.index("Collecting") < text.index("Successfully installed")
        listed = subprocess.run(
            [clone / ".venv/bin/pip", "list", "--format", "json"], capture_output=True, check=True, text=True
        )
        installed = {package["name"].lower() for package in json.loads(listed.stdout)}
        assert "uvicorn" in installed
        assert "pytest" not in installed
        assert len(installed) < 20
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(30)
        child.end_group()


def test_the_container_has_what_ci_installs() -> None:
    needed = re.findall(r"^need '.*?' (.*)$", (ROOT / ".ci/run").read_text().replace("\\\n", ""), re.MULTILINE)
    dockerfile = (ROOT / ".devcontainer/Dockerfile").read_text()
    for packages in needed:
        for package in packages.split():
            assert re.search(rf" {re.escape(package)}\s", dockerfile), package
    assert len(needed) >= 8
    settings = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).is_file()
    assert re.search(rf"^{settings['postCreateCommand'].removeprefix('make ')}:", (ROOT / "Makefile").read_text(), re.M)
