# SPDX-License-Identifier: BSD-3-Clause
"""How a trace goes on where a message is received.

A tracing library hands out headers where a message is sent, such as ``traceparent``. They travel in the envelope, not
in the message, and are handed to the library where the message is received. Without such a library, nothing is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Propagator(Protocol):
    """What connects the layers of this process with a tracing library. No method may raise an error."""

    def headers(self) -> Mapping[str, str]:
        """The headers of a message that is being sent, for its receiver. Empty: it is not traced."""

    def received(self, message: dict[str, Any], channel: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """What `receive` returns for `message`, which has come from `channel`: an equal dict."""


propagator: Propagator | None = None
"""That of this process; None: no tracing."""


def propagate_with(other: Propagator | None) -> None:
    """Set the propagator of this process."""
    global propagator
    propagator = other
