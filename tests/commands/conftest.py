"""Commands in the process of the test, which has the layer that they look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hybrid_layer.commands.program import main
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.ipc.objects import remove_object, segment_name


@dataclass
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        found = json.loads(self.out)
        assert found["format"] == 1
        return found

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Done]


@pytest.fixture
def command(prefix: str, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("status", "--json")` runs it on the test's prefix."""

    def command(*arguments: str) -> Done:
        capsys.readouterr()
        try:
            code = main(["--prefix", prefix, *arguments])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return command


@pytest.fixture
def layer(prefix: str) -> IPCChannelLayer:
    return IPCChannelLayer(prefix=prefix, message_memory=1 << 20, group_memory=1 << 20)


@pytest.fixture
def of_another_user(prefix: str) -> Iterator[int]:
    """The id of a user who has a segment of the test's prefix, by its name."""
    user = 54321
    path = f"/dev/shm/{segment_name(prefix, user)}"
    with open(path, "w"):
        pass
    yield user
    remove_object(segment_name(prefix, user))
