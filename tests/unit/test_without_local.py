"""Where the local half does not exist (Windows, an unbuilt tree), the remote classes work and the rest says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hybrid_layer

PROGRAM = """
import sys
sys.modules[{missing!r}] = None
from django.conf import settings
settings.configure()
from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer
RedisChannelLayer()
for layer in (IPCChannelLayer, HybridChannelLayer):
    try:
        layer()
    except ConfigurationError as error:
        assert "hybrid_layer.remote.RedisChannelLayer" in str(error), error
    else:
        raise AssertionError(layer)
print("as it should")
"""


def run(missing: str) -> str:
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(missing=missing)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_without_the_compiled_core() -> None:
    assert run("hybrid_layer.ipc._core") == "as it should\n"


def test_without_posix_shared_memory() -> None:
    assert run("posix_ipc") == "as it should\n"


def test_a_checkout_that_is_not_built(tmp_path: Path) -> None:
    """It says how to build it; the package of that name on PyPI would not help."""
    package = Path(hybrid_layer.__file__).parent
    shutil.copytree(package, tmp_path / "hybrid_layer", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    program = (
        "from hybrid_layer.remote import RedisChannelLayer; RedisChannelLayer(); "
        "from hybrid_layer.inbox import Inbox; print(Inbox.__module__); "
        "from hybrid_layer.ipc import IPCChannelLayer; IPCChannelLayer()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.stdout == "hybrid_layer.interpreted.inbox\n", done.stderr
    assert "ConfigurationError: The machine-local layer is not built" in done.stderr
    assert "make build" in done.stderr
    assert "pip install hybrid_layer" not in done.stderr.split("ConfigurationError:")[1]
