"""The members of groups in one process, each with a coroutine that waits for its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any

_SETTLED = 0.4
"""Seconds until all members wait and connections lie where they stay."""


@contextlib.asynccontextmanager
async def join_groups(
    layer: Any, groups: Sequence[Iterable[str]], live: Callable[[str], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """For each item of `groups` a channel that is in these groups, and a task of `live(channel)`, until the block ends.

    An error of a task ends the block.
    """
    async with asyncio.TaskGroup() as tasks:
        living = []
        for joined in groups:
            channel = await layer.new_channel()
            for group in joined:
                await layer.group_add(group, channel)
            living.append(tasks.create_task(live(channel)))
        await asyncio.sleep(_SETTLED)
        yield
        for task in living:
            task.cancel()
