"""Reports to consumers that their process cannot receive from its server, and that it can again: each once per outage.

The options `on_disconnect` and `on_reconnect` give the message. It is for every process-specific channel on which a
coroutine waits, or did within `expiry`. A busy consumer will wait again; after `expiry`, the message would have
expired.
"""

from __future__ import annotations

import threading

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import Context

_SWEEP_AT = 1000
"""Number of recorded channels at which past ones are first removed."""


class Outages:
    """The outages of the server of a process's inboxes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._has_reports = context.options.on_disconnect is not None or context.options.on_reconnect is not None
        self._lock = threading.Lock()
        self.is_out = False
        """Whether the process cannot receive from the server."""
        self._seen: dict[str, float] = {}
        """When a coroutine last began to wait on each channel, on `hybrid_layer.clock`; oldest first."""
        self._sweep_at = _SWEEP_AT

    def seen(self, channel: str) -> None:
        """Note that a coroutine begins to wait on `channel`."""
        if self._has_reports:
            with self._lock:
                self._seen.pop(channel, None)
                self._seen[channel] = monotonic()
                if len(self._seen) >= self._sweep_at:
                    self._forget_gone()
                    self._sweep_at = max(_SWEEP_AT, 2 * len(self._seen))

    def lost(self) -> None:
        """Report an outage: messages cannot be read from now on."""
        self._turn(True, self._context.options.on_disconnect)

    def back(self) -> None:
        """Report the end of an outage, if there is one."""
        if self.is_out:
            self._turn(False, self._context.options.on_reconnect)

    def _turn(self, is_out: bool, payload: bytes | None) -> None:
        context = self._context
        with self._lock:
            if self.is_out is is_out:
                return
            self.is_out = is_out
            if payload is None:
                return
            self._forget_gone()
            channels = list(self._seen)
        deadline = monotonic() + context.policy.expiry
        context.inbox.deliver(channels, payload, deadline, context.home.epoch.generation)

    def _forget_gone(self) -> None:
        before = monotonic() - self._context.policy.expiry
        for channel, since in list(self._seen.items()):
            if since <= before and not self._context.inbox.is_waited_on(channel):
                del self._seen[channel]
