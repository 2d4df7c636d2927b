"""Fields around a payload are passed over; what only looks like them is kept apart."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.envelope import enclosed, opened
from hybrid_layer.exceptions import Undecodable
from hybrid_layer.serializers import Codec, MsgpackSerializer, register_serializer
from tests.support.probe import forbid_decryption, own_serializers

KEYS = pytest.mark.parametrize("keys", [None, ["secret"]], ids=["plain", "encrypted"])
FORMATS = pytest.mark.parametrize("serializer_format", ["msgpack", "json", "marked"])


class Marked(MsgpackSerializer):
    """Its payloads begin as an envelope does."""

    def dumps(self, message: dict[str, Any], /) -> bytes:
        return b"\xc1" + super().dumps(message)

    def loads(self, payload: bytes, /) -> dict[str, Any]:
        assert payload[:1] == b"\xc1"
        return super().loads(payload[1:])


@pytest.fixture(autouse=True)
def with_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    own_serializers(monkeypatch)
    register_serializer("marked", Marked())


def codec(serializer_format: str, keys: list[str] | None) -> Codec:
    return Codec(LayerOptions(serializer_format=serializer_format, symmetric_encryption_keys=keys))


@given(st.binary())
def test_what_was_enclosed_is_opened(payload: bytes) -> None:
    assert opened(enclosed(payload)) == payload
    if payload[:1] != b"\xc1":
        assert enclosed(payload) is payload is opened(payload)


@KEYS
@FORMATS
def test_a_payload_that_begins_with_the_mark_comes_through(serializer_format: str, keys: list[str] | None) -> None:
    one = codec(serializer_format, keys)
    payload = one.encode({"n": 1}, "a")
    assert (payload[:3] == b"\xc1\0\0") == (serializer_format == "marked" and keys is None)
    assert one.decode(payload, "a") == {"n": 1}


@KEYS
@FORMATS
@pytest.mark.parametrize("fields", [{}, {"exclude": "specific.A!1"}, {"later": "x" * 60_000}], ids=len)
def test_fields_of_a_later_release_are_passed_over(
    serializer_format: str, keys: list[str] | None, fields: dict[str, str]
) -> None:
    one = codec(serializer_format, keys)
    bare, packed = opened(one.encode({"n": 1}, "a")), msgpack.packb(fields)
    enveloped = b"\xc1" + len(packed).to_bytes(2, "big") + packed + bare
    assert one.decode(enveloped, "a") == one.decode(enveloped, "a") == {"n": 1}


@pytest.mark.parametrize("payload", [b"\xc1", b"\xc1\0", b"\xc1\0\1", b"\xc1\xff\xff{}"])
@KEYS
def test_an_envelope_that_is_cut_off(payload: bytes, keys: list[str] | None) -> None:
    with pytest.raises(Undecodable, match=f"its envelope is cut off after {len(payload)} bytes"):
        codec("json", keys).decode(payload, "a")


def test_members_of_a_group_have_an_enveloped_payload_decrypted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = codec("json", ["secret"])
    enveloped = b"\xc1\0\0" + one.encode({"n": [1]}, "a")
    assert one.decode(enveloped, "a") == {"n": [1]}
    forbid_decryption(monkeypatch, one)
    assert one.decode(enveloped, "a") == {"n": [1]}
