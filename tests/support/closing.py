"""What a test opens for a block, and what closes itself at the end of it."""

from __future__ import annotations

from typing import Self


class Closing:
    """A context manager whose end is `close`."""

    def close(self) -> None:
        """Give everything back. May be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
