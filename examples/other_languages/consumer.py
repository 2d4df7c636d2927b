"""A consumer to send to: prints the name of its channel, joins the group "news", and prints what it gets.

python examples/other_languages/consumer.py redis://localhost:6379
"""

from __future__ import annotations

import asyncio
import sys

from hybrid_layer.remote import RedisChannelLayer


async def main(host: str, prefix: str = "asgi") -> None:
    layer = RedisChannelLayer(hosts=[host], prefix=prefix)
    channel = await layer.new_channel()
    await layer.group_add("news", channel)
    print(channel, flush=True)
    while True:
        print(await layer.receive(channel), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
