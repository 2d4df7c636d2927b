"""Files in /dev/shm that are not this user's own, or not what they should be; and what another user can do to ours."""

from __future__ import annotations

import ast
import asyncio
import os
import pickle
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

import hybrid_layer
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.objects import ROOT, directory_of, label, segment_name
from tests.contract.peers import Warnings
from tests.ipc.tools import directory_path, doorbells, layer_of, receive, segment_path
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import receiving, wait_until

NOBODY, SOMEBODY = 65534, 65533
"""Two ordinary users."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place(prefix: str) -> Iterator[dict[str, Path]]:
    """Where the segment, its directory and its lock file belong; removed in the end."""
    yield {
        "segment": segment_path(prefix),
        "directory": directory_path(prefix),
        "lock": directory_path(prefix) / "lock",
    }
    for path in (segment_path(prefix), directory_path(prefix)):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)


def refusal(prefix: str) -> str:
    """What a layer says that may not use what it finds; it leaves no descriptor open."""
    layer = layer_of(prefix)
    with pytest.raises(ConfigurationError):  # what the first try opens for good is not counted
        async_to_sync(layer.send)("a", {"n": 1})
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ConfigurationError) as refused:
            async_to_sync(layer.send)("a", {"n": 1})
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
    return str(refused.value)


def make(path: Path, kind: str, target: Path) -> None:
    """Something of that kind, closed to others."""
    if kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "FIFO":
        os.mkfifo(path, 0o600)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
        path.chmod(0o600)
    elif kind == "symbolic link":
        target.touch(mode=0o600)
        path.symlink_to(target)
    elif kind == "hard link":
        target.touch(mode=0o600)
        path.hardlink_to(target)
    else:
        path.touch(mode=0o600)


@pytest.mark.parametrize("what", ["segment", "directory", "lock"])
@pytest.mark.parametrize("how", [pytest.param("owner", marks=needs_root), "mode"])
def test_owner_and_mode(prefix: str, place: dict[str, Path], what: str, how: str) -> None:
    place["directory"].mkdir(mode=0o700)
    path = place[what]
    if what != "directory":
        path.touch(mode=0o600)
    if how == "owner":
        os.chown(path, NOBODY, NOBODY)
    else:
        path.chmod(path.stat().st_mode | 0o040)
    text = refusal(prefix)
    kind = "directory" if what == "directory" else "file"
    mode = {("mode", "directory"): "0740", ("owner", "directory"): "0700"}.get(
        (how, kind), "0640" if how == "mode" else "0600"
    )
    owner = NOBODY if how == "owner" else os.geteuid()
    where = label(segment_name(prefix, os.geteuid())) if what == "segment" else path
    for part in (f"{where} is a {kind} of user {owner} with mode {mode}", f"user {os.geteuid()}", "another prefix"):
        assert part in text


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        # Those of the portable core have no place among the files.
        *(("segment", kind) for kind in ("directory", "FIFO", "socket", "symbolic link") if not _core.PORTABLE),
        *(("directory", kind) for kind in ("file", "FIFO", "symbolic link")),
        *(("lock", kind) for kind in ("directory", "FIFO", "socket", "symbolic link", "hard link")),
    ],
)
def test_other_kinds_of_files(prefix: str, place: dict[str, Path], tmp_path: Path, what: str, kind: str) -> None:
    if what != "directory":
        place["directory"].mkdir(mode=0o700)
    target = (ROOT / f"{prefix}.target") if kind == "hard link" else tmp_path / "target"
    try:
        make(place[what], kind, target)
        text = refusal(prefix)
        assert f"{place[what]} is a " in text
        assert kind in text
        assert "another prefix" in text
        assert not target.exists() or target.stat().st_size == 0
    finally:
        target.unlink(missing_ok=True)


@needs_root
def test_segment_that_may_not_be_opened(prefix: str) -> None:
    """A stranger has taken our name."""
    path = segment_path(prefix, NOBODY)
    path.touch(mode=0o600)
    directory = directory_of(segment_name(prefix, NOBODY))
    says = "cannot be used" if _core.PORTABLE else f"{path} is a file of user 0 with mode 0600"
    try:
        assert as_user(NOBODY, lambda: says in refusal(prefix))
    finally:
        path.unlink()
        shutil.rmtree(directory)


def as_user(uid: int, check: Callable[[], bool]) -> bool:
    """Whether `check` holds in a process of that user, which cannot become root again."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def live(parent: Parent, prefix: str, uid: int) -> tuple[list[Any], list[str]]:
    """A process of that user, waiting for messages."""
    import logging

    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    layer = layer_of(prefix)
    own = await layer.new_channel()
    (waiting,) = await receiving(layer, own)
    parent.ready(own)
    await asyncio.to_thread(parent.receive)
    await layer.send(own, {"n": uid})
    message = await waiting
    return [message["n"], (await layer.statistics())["received"]], warnings.texts


@needs_root
def test_users_cannot_touch_each_other(prefix: str, spawn: Spawn) -> None:
    """The same prefix, and two ordinary users: neither reads, writes, rings or removes what is the other's."""
    first = spawn("tests.ipc.test_strangers:live", prefix, NOBODY)
    name = first.ready()
    second = spawn("tests.ipc.test_strangers:live", prefix, SOMEBODY)
    second.ready()
    path = segment_path(prefix, NOBODY)
    directory = directory_of(segment_name(prefix, NOBODY))
    (bell,) = [path for path in directory.iterdir() if path.is_fifo()]
    assert as_user(SOMEBODY, lambda: all(map(is_denied, attempts(path, directory, bell))))
    assert not as_user(NOBODY, lambda: any(map(is_denied, attempts(path, directory, bell)[:3])))

    def send_to_the_other() -> bool:
        layer = layer_of(prefix)
        async_to_sync(layer.send)(name, {"n": "from a stranger"})  # not stored: no process here has that name
        return bool(async_to_sync(layer.statistics)()["dead"])

    assert as_user(SOMEBODY, send_to_the_other)
    for process, uid in ((first, NOBODY), (second, SOMEBODY)):
        process.send(None)
        got, warnings = process.result()
        assert got == [uid, 1]
        if uid == SOMEBODY:
            (warning,) = warnings
            for part in (f"User {NOBODY} has a segment of the same prefix {prefix!r}", f"user {SOMEBODY}", "routes="):
                assert part in warning
    assert not path.exists()
    assert not directory.exists()


def attempts(path: Path, directory: Path, bell: Path) -> list[Callable[[], object]]:
    return [
        lambda: os.close(os.open(path, os.O_RDWR)),
        lambda: os.close(os.open(bell, os.O_WRONLY | os.O_NONBLOCK)),
        lambda: os.listdir(directory),
        lambda: os.close(os.open(path, os.O_RDONLY)),
        lambda: os.close(os.open(bell, os.O_RDONLY | os.O_NONBLOCK)),
        lambda: os.close(os.open(directory / "lock", os.O_RDWR)),
        lambda: os.close(os.open(directory / "new", os.O_RDWR | os.O_CREAT)),
        lambda: os.unlink(path),
        lambda: os.rename(directory, directory.with_suffix(".x")),
        lambda: os.truncate(path, 0),
    ]


def is_denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


@pytest.mark.parametrize("kind", ["hard link", "directory", "symbolic link"])
def test_something_else_in_a_doorbells_place(prefix: str, spawn: Spawn, kind: str) -> None:
    """It is not written to, and the doorbell is made again where possible. Messages arrive either way."""
    layer = layer_of(prefix)
    target = ROOT / f"{prefix}.target"

    async def main() -> None:
        reply = await layer.new_channel()
        other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
        await asyncio.to_thread(other.ready)
        (name,) = doorbells(prefix)
        bell = directory_path(prefix) / name
        bell.unlink()
        make(bell, kind, target)
        for n in range(3):
            await layer.send("work", {"n": n, "reply": reply})
            assert await receive(layer, reply) == n
        assert kind == "directory" or target.stat().st_size == 0
        if kind == "directory":
            bell.rmdir()
        await wait_until(bell.is_fifo, "the doorbell is made anew", 5)
        await layer.send("work", {"n": 1, "reply": ""})
        await asyncio.to_thread(other.result)

    try:
        run(main())
    finally:
        target.unlink(missing_ok=True)


# Code


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.kill, (os.getpid(), signal.SIGKILL)


HOSTILE = [
    pickle.dumps(Malice()),
    b"\x81\xa1n\xc7\xff" + bytes(300),
    b"\xdf\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\xc1",
    b"",
    os.urandom(1000),
]
"""Code in Python's own format, and what is no msgpack, or more than is there, or endless."""


@pytest.mark.parametrize("options", [{}, {"serializer_format": "json"}, {"symmetric_encryption_keys": ["secret"]}])
async def test_hostile_payloads(prefix: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """They are counted and dropped; what comes behind them is read."""
    layer = layer_of(prefix, **options)
    own = await layer.new_channel()
    part, _, local = own.partition("!")
    for payload in HOSTILE:
        probe(layer).core.push("normal", "", payload, 100, 10**10)
        probe(layer).core.push(f"{part}!", local, payload, 100, 10**10)
    for channel in ("normal", own):
        await layer.send(channel, {"n": "sound"})
        assert await receive(layer, channel) == "sound"
    assert (await layer.statistics())["undecodable"] == 2 * len(HOSTILE)


def test_nothing_is_ever_unpickled() -> None:
    """No module of the package has the means to make code out of bytes."""
    forbidden = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "code"}
    calls = {"eval", "exec", "compile", "__import__"}
    for path in Path(hybrid_layer.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.partition(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in forbidden, path
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in calls, path
