"""Runs one contestant once: a fresh process for each role, and points where all roles meet.

A role is a coroutine function ``role(layer, party, ...)``, or a plain function where a caller without an event loop is
what is measured. `party.meet(value)` waits until every role got there and returns what each of them brought, in the
order of the roles. All roles of a run meet equally often.

The parent only passes on what is brought to a meeting, and between meetings it sleeps.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import itertools
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from benchmarks.contestants import Contestant, Place, Recipe

# Children are forks of a server that has imported what all need: they start within milliseconds, and no state of one
# run is left in the next.
_PRELOAD = [
    "benchmarks.bare",
    "benchmarks.questions",
    "channels.layers",
    "channels_redis.core",
    "channels_redis.pubsub",
    "hybrid_layer",
    "hybrid_layer.ipc",
    "hybrid_layer.remote",
    "redis.asyncio",
]
_multiprocessing = multiprocessing.get_context("forkserver")
_multiprocessing.set_forkserver_preload(_PRELOAD)

Pin = Literal["together", "apart"] | None
"""Do the processes of a run stay on one processor, each on the next one, or where the kernel puts them?"""

Role = partial
"""A role with its arguments, without layer and party."""


class RunFailed(Exception):
    """A role raised, died or did not end in time. The text is what a person needs to know."""


@dataclass(frozen=True)
class Meeting:
    """All roles stand here and wait."""

    number: int
    """0 is the first of the run."""
    cpu_seconds: float
    """What all processes of the run have used so far."""


class Party:
    """A role's end of the meetings."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def meet(self, value: Any = None) -> list[Any]:
        """Wait for the other roles; what each of them brought. Processor time is read at the call."""
        self._say(value)
        # In a thread that ends up asleep in read(): the loop goes on, the interpreter lock is free.
        brought: list[Any] = await asyncio.get_running_loop().run_in_executor(None, self._connection.recv)
        return brought

    def meet_blocking(self, value: Any = None) -> list[Any]:
        """The same for a role without an event loop."""
        self._say(value)
        brought: list[Any] = self._connection.recv()
        return brought

    def _say(self, value: Any) -> None:
        self._connection.send(("meet", (value, time.process_time())))


class Arena:
    """Places for runs, on one server unless a run has others."""

    def __init__(self, hosts: Sequence[Any], pin: Pin, capacity: int) -> None:
        self._hosts = hosts
        self._capacity = capacity
        self._pin = pin
        self._runs = 0

    def run(
        self,
        contestant: Contestant,
        roles: Sequence[Role[Any]],
        *,
        at_meeting: Callable[[Meeting], None] = lambda meeting: None,
        pin: Pin = None,
        timeout: float = 60,
        hosts: Sequence[Any] | None = None,
    ) -> list[Any]:
        """Run `roles`, each in a process of its own if the contestant can; what each returned.

        `at_meeting` is called at each meeting, before the roles go on. `hosts` are other servers than the arena's.
        Raises `RunFailed`.
        """
        self._runs += 1
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
            prefix = f"benchmarks-{os.getpid()}-{self._runs}"
            place = Place(hosts or self._hosts, prefix, directory, self._capacity)
            recipe = Recipe(contestant.backend, contestant.config(place))
            run = _Run(recipe, [roles] if contestant.one_process else [[role] for role in roles], pin or self._pin)
            try:
                return run.direct(at_meeting, time.monotonic() + timeout)
            except RunFailed:
                run.kill()
                # What the killed processes left behind goes with another's orderly end.
                run = _Run(recipe, [[Role(_leave)]], None)
                run.direct(at_meeting, time.monotonic() + timeout)
                raise
            finally:
                run.end()


class _Run:
    """The parent's side of one run."""

    def __init__(self, recipe: Recipe, casts: Sequence[Sequence[Role[Any]]], pin: Pin) -> None:
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._process_of: list[int] = []
        """By connection: the number of its process."""
        for number, cast in enumerate(casts):
            pipes = [_multiprocessing.Pipe() for _ in cast]
            processors = _processors(number, pin)
            process = _multiprocessing.Process(
                target=_play, args=(recipe, cast, [theirs for _, theirs in pipes], processors)
            )
            process.start()
            for ours, theirs in pipes:
                theirs.close()
                self._connections.append(ours)
                self._process_of.append(number)
            self._processes.append(process)

    def direct(self, at_meeting: Callable[[Meeting], None], deadline: float) -> list[Any]:
        """Lead the roles from meeting to meeting until each has returned."""
        for number in itertools.count():
            said = self._hear_all(deadline)
            if all(what == "returned" for what, _ in said):
                return [value for _, value in said]
            if not all(what == "meet" for what, _ in said):
                raise RunFailed("the roles do not meet equally often")
            # Roles of one process tell the same clock's time.
            used = dict(zip(self._process_of, (cpu_seconds for _, (_, cpu_seconds) in said), strict=True))
            at_meeting(Meeting(number, sum(used.values())))
            brought = [value for _, (value, _) in said]
            for connection in self._connections:
                connection.send(brought)
        raise AssertionError("unreachable")

    def _hear_all(self, deadline: float) -> list[tuple[str, Any]]:
        said: dict[Connection, tuple[str, Any]] = {}
        while len(said) < len(self._connections):
            silent = [connection for connection in self._connections if connection not in said]
            ready = wait(silent, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                raise RunFailed("did not end in time")
            for connection in silent:
                if connection not in ready:
                    continue
                try:
                    what, value = connection.recv()
                except EOFError:
                    raise RunFailed("a process died") from None
                if what == "raised":
                    raise RunFailed(value)
                said[connection] = what, value
        return [said[connection] for connection in self._connections]

    def end(self) -> None:
        """Let the processes clean up and go."""
        for number, connection in enumerate(self._connections):
            try:
                connection.send(number == 0)
            except OSError:
                pass  # it went already
            connection.close()
        for process in self._processes:
            process.join(timeout=5)
        self.kill()

    def kill(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join()


def _processors(number: int, pin: Pin) -> set[int]:
    """Where the process of this number may run."""
    available = os.sched_getaffinity(0)
    if pin is None:
        return available
    return {sorted(available)[number % len(available) if pin == "apart" else 0]}


def _play(recipe: Recipe, cast: Sequence[Role[Any]], connections: Sequence[Connection], processors: set[int]) -> None:
    """What a child process does."""
    os.sched_setaffinity(0, processors)
    layer = recipe.build()
    try:
        if inspect.iscoroutinefunction(cast[0].func):
            asyncio.run(_play_tasks(layer, cast, connections))
        else:
            [role], [connection] = cast, connections
            connection.send(("returned", role(layer, Party(connection))))
            asyncio.run(_clean_up(layer, flush=connection.recv()))
    except Exception as error:  # noqa: BLE001  # whatever it is, the report names it
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        text = "".join(traceback.format_exception_only(error)).strip()
        where = traceback.extract_tb(error.__traceback__)[-1]
        for connection in connections:
            connection.send(("raised", f"{text} ({os.path.basename(where.filename)}:{where.lineno})"))
    finally:
        # multiprocessing ends its children by os._exit, without what a process otherwise does on its way out.
        atexit._run_exitfuncs()


async def _play_tasks(layer: Any, cast: Sequence[Role[Any]], connections: Sequence[Connection]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(role(layer, Party(connection)))
            for role, connection in zip(cast, connections, strict=True)
        ]
    loop = asyncio.get_running_loop()
    first = False
    for task, connection in zip(tasks, connections, strict=True):
        connection.send(("returned", task.result()))
    for connection in connections:
        first |= await loop.run_in_executor(None, connection.recv)
    await _clean_up(layer, flush=first)


async def _clean_up(layer: Any, *, flush: bool) -> None:
    if flush and hasattr(layer, "flush"):
        await layer.flush()
    if hasattr(layer, "close"):
        await layer.close()


async def _leave(layer: Any, party: Party) -> None:
    """The role of one who only cleans up."""
