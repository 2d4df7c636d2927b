"""The remote classes on Windows, as far as another system can show it: without what only POSIX has.

That is: no modules for locks of files, users and terminals, no fork, no functions of `os` for them, no compiled core,
and event loops that watch no descriptors, as asyncio's proactor has it.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.servers import Server

PROGRAM = """
import asyncio
import os
import sys

import asgiref.sync, channels.layers, django.conf, redis.asyncio  # with what they take from this system

for module in ("fcntl", "grp", "posix_ipc", "pwd", "resource", "termios", "uvloop", "hybrid_layer.ipc._core"):
    sys.modules[module] = None
for name in ("fork", "getegid", "geteuid", "getgid", "getuid", "mkfifo", "pread", "pwrite", "register_at_fork"):
    delattr(os, name)
sys.platform = "win32"


class Loop(asyncio.SelectorEventLoop):
    def add_reader(self, *args):
        raise NotImplementedError

    add_writer = add_reader


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


asyncio.set_event_loop_policy(Policy())
django.conf.settings.configure()
from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer

options = {{"prefix": {prefix!r}, "hosts": [{url!r}]}}
layer = RedisChannelLayer(**options)


async def main():
    assert type(asyncio.get_running_loop()) is Loop
    own = await layer.new_channel()
    await layer.group_add("group", own)
    await layer.group_add("group", "normal")
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in (own, "normal")]
    await asyncio.sleep(0.05)
    await layer.group_send("group", {{"n": 1}})
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [{{"n": 1}}] * 2
    await layer.send("normal", {{"n": 2}})
    assert await asyncio.wait_for(layer.receive("normal"), 10) == {{"n": 2}}
    await layer.flush()
    await layer.close()


asyncio.run(main())
asgiref.sync.async_to_sync(layer.send)("normal", {{"n": 3}})
assert asgiref.sync.async_to_sync(layer.receive)("normal") == {{"n": 3}}
for build in (IPCChannelLayer, HybridChannelLayer, lambda: HybridChannelLayer(**options)):
    try:
        build()
    except ConfigurationError as error:
        assert "hybrid_layer.remote.RedisChannelLayer" in str(error), error
    else:
        raise AssertionError("a layer with a local half was built")
print("as it should")
"""


def test_without_what_only_posix_has(prefix: str, server: Server) -> None:
    program = PROGRAM.format(prefix=prefix, url=server.url)
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning:asyncio", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # The development mode reports what takes long, on a busy machine.
    said = [line for line in done.stderr.splitlines() if not re.fullmatch(r"Executing .* took [\d.]+ seconds", line)]
    assert (done.returncode, done.stdout, said) == (0, "as it should\n", [])
