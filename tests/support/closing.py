"""Objects that a test opens for a block, and that close at its end."""

from __future__ import annotations

from typing import Self


class Closing:
    """A context manager whose end is `close`."""

    def close(self) -> None:
        """Release everything. May be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
