"""Constructors that are made from a dataclass of options."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, dataclass
from enum import IntEnum
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions, option, takes
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import positive_int


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(LayerOptions):
    size: int = option(3, positive_int)
    secret: str = "none"


class Layer:
    @takes(Options)
    def __init__(self, options: Options) -> None:
        """Make one."""
        self.options = options


def test_the_constructor_takes_the_fields_as_keywords() -> None:
    layer = Layer(size=5, prefix="p")
    assert (layer.options.size, layer.options.prefix, layer.options.secret) == (5, "p", "none")
    with pytest.raises(TypeError, match=r"Layer\(\) takes its options by name"):
        Layer(5)  # type: ignore


def test_the_signature_is_that_of_the_dataclass() -> None:
    assert inspect.signature(Layer).parameters == inspect.signature(Options).parameters
    assert Layer.__init__.__doc__ == "Make one."


def test_a_check_says_what_is_used() -> None:
    class Size(IntEnum):
        LARGE = 7

    assert type(Layer(size=Size.LARGE).options.size) is int
    with pytest.raises(ConfigurationError, match="size must be an int greater than 0, not 0"):
        Layer(size=0)
    with pytest.raises(ConfigurationError, match="capacity must be an int greater than 0, not 0"):
        Layer(capacity=0)


def test_an_unknown_option_is_named_with_the_class_and_the_nearest_one() -> None:
    class Mine(Layer):
        pass

    unknown: dict[str, Any] = {"siz": 5}
    with pytest.raises(ConfigurationError, match=r"Mine has no option 'siz'\. Did you mean 'size'\?"):
        Mine(**unknown)


def test_options_are_neither_changed_nor_shown() -> None:
    options = Layer(secret="hunter2").options
    assert "hunter2" not in repr(options)
    with pytest.raises(FrozenInstanceError):
        options.secret = "other"  # type: ignore[misc]
