"""The second process's end of `tests/support/processes.py`: runs one function and reports its outcome to the test."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from multiprocessing.connection import Connection
from typing import Any

from tests.support import django_settings
from tests.support.loops import LoopKind, run


class Parent:
    """The first argument of the function."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ready(self, value: Any = None) -> None:
        """Say that the set-up is done, or that a point was reached."""
        self._connection.send(("ready", value))

    def send(self, value: Any) -> None:
        """Give the test a value: its next `process.receive()`."""
        self._connection.send(("message", value))

    def has_news(self) -> bool:
        """Whether `receive` would return at once."""
        return self._connection.poll(0)

    def receive(self) -> Any:
        """Wait for the test's next `process.send(value)`; `EOFError` when the test is over. Blocks its thread."""
        return self._connection.recv()


def is_about_the_program(record: logging.LogRecord) -> bool:
    """In debug mode asyncio warns of callbacks that took 0.1 s, which on a loaded machine any of them may."""
    return not str(record.msg).startswith("Executing %s took")


def main(descriptor: str, target: str, loop: LoopKind) -> None:
    connection = Connection(int(descriptor))
    args, kwargs = connection.recv()
    django_settings.configure()
    logging.getLogger("asyncio").addFilter(is_about_the_program)
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    _import_layers(*args, *kwargs.values())
    result = function(Parent(connection), *args, **kwargs)
    if inspect.iscoroutine(result):
        # No bound of its own: the test that waits has one, and the process does not outlive the test.
        result = run(result, loop=loop, seconds=None)
    connection.send(("result", result))
    connection.close()


def _import_layers(*values: Any) -> None:
    """Import what the given layers need, before a loop runs: asyncio's debug mode complains of slow steps."""
    for value in values:
        if isinstance(value, dict) and "backend" in value:
            importlib.import_module(value["backend"].rpartition(".")[0])
            if value.get("options", {}).get("hosts"):
                importlib.import_module("hybrid_layer.remote")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
