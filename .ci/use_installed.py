"""Uses an installed hybrid_layer once; started from the outside, so that it cannot find the source tree instead."""

import asyncio
import secrets
import sys
from importlib import metadata, resources
from pathlib import Path

import hybrid_layer
from hybrid_layer import inbox
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer


async def main() -> None:
    if sys.platform == "win32":  # no local half, and no server for the other
        await RedisChannelLayer().close()
        return
    layer = IPCChannelLayer(prefix="installed-" + secrets.token_hex(6))
    message = {"type": "hello", "body": b"\x00\xff"}
    await layer.send("normal", message)
    assert await layer.receive("normal") == message
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", message)
    assert await layer.receive(channel) == message
    await layer.close()


files = resources.files(hybrid_layer)
assert Path(str(files)).is_relative_to(sys.prefix), f"{files} is not the installed package"
assert metadata.version("hybrid_layer") == hybrid_layer.__version__
for data in ("py.typed", "ipc/_core.pyi", "remote/redis/scripts"):
    assert (files / data).is_file() or any((files / data).iterdir()), f"{data} is not installed"
assert not list(Path(str(files)).rglob("*.c")), "C sources are installed"
assert inbox.Inbox.__module__ == "hybrid_layer._inbox", "the inbox is the one in Python"
asyncio.run(asyncio.wait_for(main(), 10))
print(f"hybrid_layer {hybrid_layer.__version__} from {files} works")
