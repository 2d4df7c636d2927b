# SPDX-License-Identifier: BSD-3-Clause
"""Messages to bytes and back: MessagePack, JSON, or a user's serializer, and encryption.

The layer classes use `Codec`. Every receiver gets a message of its own, so receivers and senders share nothing mutable.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Protocol

import msgpack

from hybrid_layer import messages, propagation
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.envelope import MARK, enclosed, opened, with_headers
from hybrid_layer.exceptions import ConfigurationError, InvalidMessageValue, MessageTooLarge, Undecodable
from hybrid_layer.interruption import is_foreign
from hybrid_layer.options import did_you_mean, shown


class Serializer(Protocol):
    """An object for `register_serializer`.

    `dumps` gets a checked message of base types only, and must not keep or change it. `loads` may raise any exception
    for bytes that it cannot read.
    """

    def dumps(self, message: dict[str, Any], /) -> bytes: ...

    def loads(self, payload: bytes, /) -> dict[str, Any]: ...


class MsgpackSerializer:
    """MessagePack, which distinguishes str and bytes. Its size limits follow the length of the payload."""

    def dumps(self, message: dict[str, Any], /) -> bytes:
        packed: bytes = msgpack.packb(message)
        return packed

    def loads(self, payload: bytes, /) -> dict[str, Any]:
        message: dict[str, Any] = msgpack.unpackb(payload)
        return message


class JSONSerializer:
    r"""JSON in UTF-8, for readers that are not Python.

    JSON has no bytes. They become a str of ``\0b`` and base64. A str that starts with ``\0`` gets ``\0s`` before it, so
    that the two are not confused. Keys stay as they are. NaN and infinities are written as Python's json does: NaN,
    Infinity, -Infinity.
    """

    # How every str that starts with \0 begins, before and after escaping. A text without it needs no second pass. One
    # that has it by chance, in a key or after an escaped backslash, merely gets one.
    _MARK = '"\\u0000'

    _encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode

    def dumps(self, message: dict[str, Any], /) -> bytes:
        try:
            text = self._encode(message)
        except TypeError:  # it has bytes
            text = self._MARK
        if self._MARK in text:
            text = self._encode(_escaped(message))
        return text.encode()

    def loads(self, payload: bytes, /) -> dict[str, Any]:
        text = payload.decode()
        message: dict[str, Any] = json.loads(text)
        if self._MARK in text:
            message = _unescaped(message)
        return message


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, bytes):
        return "\0b" + base64.b64encode(value).decode()
    if isinstance(value, str) and value.startswith("\0"):
        return "\0s" + value
    return value


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    if isinstance(value, str) and value.startswith("\0"):
        if value.startswith("\0s"):
            return value[2:]
        if value.startswith("\0b"):
            return binascii.a2b_base64(value[2:].encode(), strict_mode=True)
        raise ValueError(f"a str starts with {value[:2]!r}")
    return value


_FLAT = frozenset({str, int, float, bytes, bool, type(None)})
"""Types of values that cannot be changed, so that messages may share them."""

_serializers: dict[str, Serializer] = {"msgpack": MsgpackSerializer(), "json": JSONSerializer()}


def register_serializer(name: str, serializer: Serializer) -> None:
    """Make `serializer` available as ``serializer_format=name``, to layers that are built from now on.

    Raises `ConfigurationError` if `name` is no str, or a method is missing.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"register_serializer({shown(name)}, ...): the name must be a str that is not empty.")
    for method in ("dumps", "loads"):
        if not callable(getattr(serializer, method, None)):
            raise ConfigurationError(
                f"register_serializer({name!r}, ...): {shown(serializer)} has no method {method}(); a serializer needs "
                "dumps(message) -> bytes and loads(bytes) -> dict."
                + (" Give an object of the class." if isinstance(serializer, type) else "")
            )
    _serializers[name] = serializer


_GROUP = b"group "
"""What a group's name begins with in a payload. Names of channels contain no blank."""
_END_OF_NAME = b"\0"


def to_group(group: str) -> str:
    """`group` as the receiver of a message, for `Codec.encode`."""
    return f"group {group}"


class Codec:
    """Checks, serializes and encrypts messages, and the reverse. One per layer object.

    Raises `ConfigurationError` for an unknown format, wrong keys, or a missing package.
    """

    def __init__(self, options: LayerOptions) -> None:
        serializer_format, keys = options.serializer_format, options.symmetric_encryption_keys
        if not isinstance(serializer_format, str) or serializer_format not in _serializers:
            raise ConfigurationError(
                f"serializer_format={shown(serializer_format)} is not known."
                f"{did_you_mean(serializer_format, _serializers)} Known formats: {', '.join(sorted(_serializers))}. "
                "Others need a call of hybrid_layer.serializers.register_serializer() first."
            )
        self._format = serializer_format
        self._serializer = _serializers[serializer_format]
        self._max_message_size = options.max_message_size
        self._cipher = _cipher(keys) if keys else None
        # The members of a group in one process get the same bytes object, one after the other. The caches are tuples,
        # so that threads see both parts change together.
        self._decrypted: tuple[bytes | None, bytes, bytes] = None, b"", b""
        """The last payload, its receiver, and its decrypted content."""
        self._decoded: tuple[bytes | None, dict[str, Any] | None] = None, None
        """The last payload, and after its second time its message, if a shallow copy of that shares nothing mutable."""

    def encode(self, message: dict[str, Any], where: str, fields: bytes = b"") -> bytes:
        """The payload for `message`. `where` is the channel, or `to_group` of a group; error texts name it.

        `fields` are those of an envelope around it.

        With encryption it is inside the cipher, so that nobody can move a message to another channel.

        Raises `MessageTooLarge`, `InvalidMessageType` or `InvalidMessageValue`.
        """
        if not messages.check(message):
            message = messages.plain(message)
        payload = self._dumps(message, where)
        size = len(payload) + len(fields)
        if size > self._max_message_size:
            raise MessageTooLarge(
                f"The message to {where} has {size} bytes when serialized, more than max_message_size="
                f"{self._max_message_size}. Store the data elsewhere and send its key, or raise max_message_size."
            )
        if propagation.propagator is not None:
            room = self._max_message_size - len(payload)
            fields = with_headers(fields, propagation.propagator.headers(), room)
        if self._cipher is not None:
            payload = self._cipher.encrypt(where.encode() + _END_OF_NAME + payload)
        if fields or payload.startswith(MARK):  # not a call for each message
            payload = enclosed(payload, fields)
        return payload

    def decode(self, payload: bytes, channel: str) -> dict[str, Any]:
        """The message in `payload`, which came for `channel`. Raises `Undecodable`."""
        if self._cipher is not None:
            payload = self._decrypt(payload, channel, self._cipher)
        known, message = self._decoded
        if known is not payload:
            message = self._load(payload)
            self._decoded = payload, None
            return message
        if message is not None:
            return message.copy()
        message = self._load(payload)
        if _FLAT.issuperset(map(type, message.values())):
            self._decoded = payload, message.copy()
        return message

    def _load(self, payload: bytes) -> dict[str, Any]:
        if self._cipher is None and payload.startswith(MARK):
            payload = opened(payload)
        # A damaged or foreign payload may make a serializer raise anything, and readers have to go on.
        try:
            message = self._serializer.loads(payload)
        except Exception as error:
            if is_foreign(error):
                raise
            raise Undecodable(f"it is not {self._format}: {type(error).__name__}: {error}") from error
        if type(message) is not dict:
            raise Undecodable(f"as {self._format} it is a {type(message).__name__}, not a dict")
        return message

    def _decrypt(self, payload: bytes, channel: str, cipher: _Cipher) -> bytes:
        known, receiver, text = self._decrypted
        if known is not payload:
            token = opened(payload)
            try:
                receiver, _, text = cipher.decrypt(token).partition(_END_OF_NAME)
            except Exception as error:
                if is_foreign(error):
                    raise
                raise Undecodable("none of symmetric_encryption_keys decrypts it") from error
            self._decrypted = payload, receiver, text
        name = channel.encode()
        # `receive` may be asked for all channels of a process: "prefix.PROCESS!".
        is_own = receiver == name or (name.endswith(b"!") and receiver.startswith(name))
        if not is_own and not receiver.startswith(_GROUP):
            raise Undecodable("it was encrypted for another channel, and moved without a key")
        return text

    def _dumps(self, message: dict[str, Any], where: str) -> bytes:
        try:
            payload = self._serializer.dumps(message)
        except Exception as error:
            if is_foreign(error):
                raise
            raise InvalidMessageValue(
                f"The serializer {self._format!r} cannot serialize the message to {where}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if type(payload) is not bytes:
            raise ConfigurationError(
                f"The serializer {self._format!r} is broken: its dumps() returned {type(payload).__name__} for the "
                f"message to {where}; it must return bytes."
            )
        return payload


class _Cipher(Protocol):
    def encrypt(self, payload: bytes, /) -> bytes: ...

    def decrypt(self, payload: bytes, /) -> bytes: ...


def _cipher(keys: Sequence[str | bytes]) -> _Cipher:
    """A cipher that encrypts with the first key and decrypts with any, so that keys can be rotated."""
    # Error texts show no key.
    if not isinstance(keys, (list, tuple)):
        raise ConfigurationError(
            f"symmetric_encryption_keys must be a list of keys, not {type(keys).__name__}; put a single key "
            "into a list."
        )
    secrets = []
    for index, key in enumerate(keys):
        if not isinstance(key, (str, bytes)) or not key:
            raise ConfigurationError(
                f"symmetric_encryption_keys[{index}] must be a str or bytes that is not empty, "
                f"not {'empty' if key in ('', b'') else type(key).__name__}."
            )
        secrets.append(key.encode() if isinstance(key, str) else key)
    try:
        # Imported here, since without keys the package is not needed.
        import hashlib

        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise ConfigurationError(
            "symmetric_encryption_keys needs the package cryptography: pip install hybrid_layer[cryptography]"
        ) from error
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest())) for secret in secrets])
