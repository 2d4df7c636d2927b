"""Whether the channel layer works here: one message to a channel of this process, and back. Exit code 1 if it does not.

For the probes of systemd, Compose and Kubernetes; it needs DJANGO_SETTINGS_MODULE. It says that shared memory and the
servers can be used from this place, as this user. It does not say that a worker works: a worker that ends is restarted
by whatever started it, and one that does not keep up shows in `statistics()`, as `full`.
"""

from __future__ import annotations

import asyncio
import sys

import django
from channels.layers import get_channel_layer

SECONDS = 5


async def probe() -> None:
    layer = get_channel_layer()
    message = {"type": "probe"}
    async with asyncio.timeout(SECONDS):
        channel = await layer.new_channel()
        await layer.send(channel, message)
        assert await layer.receive(channel) == message
    await layer.close()


def main() -> int:
    django.setup()
    try:
        asyncio.run(probe())
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
        print(f"the channel layer does not work: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
