"""Synchronous code whose threads are greenlets: ``python tests/remote/gevent_main.py CLASS URL PREFIX``."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from asgiref.sync import async_to_sync  # noqa: E402

from hybrid_layer import remote  # noqa: E402


def main(class_name: str, url: str, prefix: str) -> None:
    layer: Any = getattr(remote, class_name)(hosts=[url], prefix=prefix, timeout=3)

    async def converse() -> Any:
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await layer.group_send("g", {"n": 3})
        return await layer.receive(name)

    for n in (1, 2):
        async_to_sync(layer.send)("normal", {"n": n})
    got = [async_to_sync(layer.receive)("normal") for _ in range(2)]
    got.append(async_to_sync(converse)())
    assert got == [{"n": 1}, {"n": 2}, {"n": 3}], got
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=":1 is not available"):
        async_to_sync(getattr(remote, class_name)(hosts=["redis://127.0.0.1:1"], timeout=1).send)("normal", {})
    assert time.monotonic() - began < 3


main(*sys.argv[1:])
