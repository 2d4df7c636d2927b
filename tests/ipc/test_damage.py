"""What the local transport does when the core reports damage."""

from __future__ import annotations

import asyncio

import pytest

from hybrid_layer.exceptions import SegmentDamaged
from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.ipc import transport as transport_module


def test_a_send_that_meets_damage_is_not_repeated(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of it may have arrived; what is idempotent is tried again."""
    calls = []

    class Damaging:
        """The core's operations, of which each first one meets damage."""

        @staticmethod
        def group_send(core: _core.Segment, *args: object) -> tuple[int, int]:
            calls.append("group_send")
            raise _core.Damaged

        @staticmethod
        def group_add(core: _core.Segment, *args: object) -> None:
            calls.append("group_add")
            if calls.count("group_add") == 1:
                raise _core.Damaged

    async def main() -> None:
        layer = IPCChannelLayer(prefix=prefix)
        await layer.send("channel", {})
        transport = layer._transport
        assert (_core.Segment.push, _core.Segment.group_send) == transport_module._SENDS
        monkeypatch.setattr(transport_module, "_SENDS", (Damaging.group_send,))
        with pytest.raises(SegmentDamaged, match="may be lost"):
            await transport._call(Damaging.group_send)
        await transport._call(Damaging.group_add)
        await layer.flush()

    asyncio.run(main())
    assert calls == ["group_send", "group_add", "group_add"]
