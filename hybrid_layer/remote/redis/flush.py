"""Forgetting every message and group of a prefix on one server.

The keys are removed first and the epoch moves last: whoever popped something before the flush drops it when it meets
the new epoch, and the processes that live are told of it.
"""

from __future__ import annotations

import asyncio

from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.server import replies

_SCANNED_AT_ONCE = 1000


async def flush_shard(context: Context, connections: Connections, keeper: Keeper, shard: Shard) -> None:
    """Empty `shard` for the prefix of `context`. Other prefixes are not touched."""
    run, keys = connections.run, shard.keys
    living: set[str] = set()
    cursor = b"0"
    keeper.forget_all(shard.number)  # first, so that none of them is put back meanwhile
    if shard.host.tag:
        # SCAN names no key, so a node that has lost the slot would answer it, with nothing.
        await run(shard.number, ("EXISTS", f"{keys.base}nobody"))
    while True:
        command = ("SCAN", cursor, "MATCH", keys.scan_pattern(), "COUNT", _SCANNED_AT_ONCE)
        cursor, found = await run(shard.number, command, replies.is_scan)
        names = [name.decode("ascii", "replace") for name in found]
        living.update(filter(None, map(keys.process_of_alive, names)))
        doomed = [name for name in names if keys.is_data(name)]
        if doomed:
            await run(shard.number, ("UNLINK", *doomed))
        if cursor == b"0":
            break
    told = [keys.epoch] if context.options.way == "pubsub" else []
    epoch = await run(shard.number, scripts.FLUSH.command([keys.epoch], *told), replies.is_text)
    shard.epoch.flushed(epoch)
    note = b"f|" + epoch
    await asyncio.gather(*(run(shard.number, scripts.NOTE.command([keys.notes(name)], note)) for name in living))
