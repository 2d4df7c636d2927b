# SPDX-License-Identifier: BSD-3-Clause
"""The options of the layer classes, each stated once: name, type, default, and the check of its value.

A constructor names its dataclass of options (`takes`). Its signature, its error for an unknown option, and the list of
known ones are made from the fields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from re import Pattern
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from hybrid_layer.discretion import discreet
from hybrid_layer.options import check_prefix, positive_int, positive_number, refuse_unknown

MIB = 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")
Options = TypeVar("Options")

HostOption = str | tuple[str, int] | Sequence[Any] | Mapping[str, Any]


def option(default: T, check: Callable[[str, Any], object]) -> T:
    """A field with a check: a function that gets name and value, and returns the value to use.

    An option that the object built from it checks, such as `channel_capacity`, is a plain field.
    """
    return field(default=default, metadata={"check": check})


def _checked_prefix(name: str, prefix: str | Callable[[], str]) -> str | Callable[[], str]:
    check_prefix(prefix() if callable(prefix) else prefix)
    return prefix


def _checked_interval(name: str, value: object) -> float:
    is_zero = value == 0 and not isinstance(value, bool)
    return 0 if is_zero else positive_number(name, value)


# No slots, since `HybridOptions` inherits from two classes with fields. No repr, since it would show passwords.
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LayerOptions:
    """Options of all classes. Raises `ConfigurationError` for a wrong value."""

    prefix: str | Callable[[], str] = option("asgi", _checked_prefix)
    expiry: float = option(60, positive_number)
    group_expiry: float = option(86400, positive_number)
    capacity: int = option(100, positive_int)
    channel_capacity: Mapping[str | Pattern[str], int] | None = None
    max_message_size: int = option(4 * MIB, positive_int)
    serializer_format: str = "msgpack"
    symmetric_encryption_keys: list[str | bytes] | tuple[str | bytes, ...] | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if "check" in each.metadata:
                value = each.metadata["check"](each.name, getattr(self, each.name))
                object.__setattr__(self, each.name, value)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ServerOptions(LayerOptions):
    """Options of classes with servers. Here, as the hybrid must not load the client library to read them."""

    hosts: Sequence[HostOption] | None = None
    connection_kwargs: Mapping[str, Any] | None = None
    timeout: float = option(5, positive_number)
    block_time: float = option(2, positive_number)
    on_disconnect: str | None = None
    on_reconnect: str | None = None
    services: Sequence[str] | str | None = None
    sentinel_refresh_interval: float = option(0, _checked_interval)
    random_prefix_length: object = None


def takes(
    options: Callable[P, Options],
) -> Callable[[Callable[[Any, Options], None]], Callable[Concatenate[Any, P], None]]:
    """Decorate a constructor that takes an `options` object, so that callers pass the fields as keywords instead.

    The constructor raises `ConfigurationError` for an unknown name or a wrong value. Its traceback shows no value.
    """
    signature = inspect.signature(options)

    def decorate(initialize: Callable[[Any, Options], None]) -> Callable[Concatenate[Any, P], None]:
        @discreet
        @functools.wraps(initialize)
        def constructor(self: Any, *args: Any, **given: Any) -> None:
            if args:
                raise TypeError(f"{type(self).__name__}() takes its options by name, such as prefix='asgi'.")
            refuse_unknown(given, signature.parameters, type(self).__name__)
            initialize(self, options(*args, **given))

        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [itself, *signature.parameters.values()]
        constructor.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return cast("Callable[Concatenate[Any, P], None]", constructor)

    return decorate
