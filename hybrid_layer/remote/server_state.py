# SPDX-License-Identifier: BSD-3-Clause
"""What tools are told of a server, of whatever kind."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ServerState:
    """One server, or its refusal."""

    label: str
    """Its name. Contains no password."""
    error: str = ""
    """Why it is not up; empty if it is."""
    round_trip: float | None = None
    """Seconds."""
    version: str = ""
    keys: dict[str, int] = field(default_factory=dict)
    """Keys of the prefix, by kind; of a database, the rows."""
    all_keys: bool = True
    """False: there was not enough time to count all."""
    info: dict[str, str] = field(default_factory=dict)
    """What a Redis or Valkey server says of itself (INFO)."""
    skipped: list[str] = field(default_factory=list)
    """Questions that it does not allow."""

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return not self.error
