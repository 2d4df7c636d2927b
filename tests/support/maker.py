"""How tests make layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Maker:
    """`make(layer_class, **options)`: each of the `defaults` is called where its option is not given.

    At the end of a coroutine test, the layers that it made are closed.
    """

    def __init__(self, **defaults: Callable[[], Any]) -> None:
        self._defaults = defaults
        self._made: list[Any] = []

    def __call__(self, layer_class: Callable[..., Any], **options: Any) -> Any:
        given = {name: default() for name, default in self._defaults.items() if name not in options}
        self._made.append(layer_class(**given, **options))
        return self._made[-1]

    async def __aenter__(self) -> None:
        """The layers are made as the test asks for them."""

    async def __aexit__(self, *_: object) -> None:
        for layer in self._made:
            await layer.close()
