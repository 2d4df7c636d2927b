"""The check for django-health-check, run as that runs it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from health_check.exceptions import ServiceUnavailable

from hybrid_layer.contrib.health_check import ChannelLayer
from tests.support.servers import HOST, free_port


def layers(backend: str, **config: Any) -> Any:
    return override_settings(CHANNEL_LAYERS={"default": {"BACKEND": f"hybrid_layer.{backend}", "CONFIG": config}})


@pytest.mark.parametrize("backend", ["ipc.IPCChannelLayer", "HybridChannelLayer", "remote.RedisChannelLayer"])
async def test_of_a_layer_that_works(backend: str, prefix: str, hosts: list[str]) -> None:
    servers = {} if backend.startswith("ipc") else {"hosts": hosts[:1]}
    with layers(backend, prefix=prefix, **servers):
        from channels.layers import channel_layers

        for _ in range(2):
            assert (await ChannelLayer().get_result()).error is None
        await channel_layers["default"].close()
    assert repr(ChannelLayer("other")) == "ChannelLayer(alias='other')"


async def test_of_one_that_does_not(prefix: str) -> None:
    down = f"{HOST}:{free_port()}"
    with layers("HybridChannelLayer", prefix=prefix, hosts=[f"redis://user:secret@{down}"], timeout=1):
        result = await ChannelLayer().get_result()
    assert isinstance(result.error, ServiceUnavailable)
    assert down in str(result.error)
    assert "secret" not in str(result.error)


async def test_of_one_that_is_not_there() -> None:
    with override_settings(CHANNEL_LAYERS={}):
        assert "no alias" in str((await ChannelLayer("nowhere").get_result()).error)
