"""Where the local half does not exist (Windows, an unbuilt tree), the remote classes work and the rest says so."""

import subprocess
import sys

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
