# SPDX-License-Identifier: BSD-3-Clause
"""A check for django-health-check 4 or later: ``"hybrid_layer.contrib.health_check.ChannelLayer"``."""

from __future__ import annotations

import dataclasses
import secrets

from channels.exceptions import ChannelFull
from channels.layers import channel_layers
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from hybrid_layer.base import BaseLayer
from hybrid_layer.exceptions import HybridLayerError

_MESSAGE = {"type": "healthcheck"}


@dataclasses.dataclass
class ChannelLayer(HealthCheck):  # type: ignore[misc]  # the package has no types
    """A message to this process and back, by a normal channel and by a process-specific one.

    So with servers both halves of the hybrid take part. `alias` is a key of ``CHANNEL_LAYERS``.
    """

    alias: str = "default"

    async def run(self) -> None:
        """Raise `ServiceUnavailable` with the layer's own words, which contain no password."""
        if self.alias not in channel_layers:
            raise ServiceUnavailable(f"CHANNEL_LAYERS has no alias {self.alias!r}")
        layer: BaseLayer = channel_layers[self.alias]
        try:
            own = await layer.new_channel("healthcheck")
            for channel in (own, f"healthcheck.{secrets.token_hex(8)}"):
                await layer.send(channel, _MESSAGE)
                await layer.receive(channel)
        except (HybridLayerError, ChannelFull) as error:
            raise ServiceUnavailable(str(error)) from error
