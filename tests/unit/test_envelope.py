"""Fields around a payload are passed over; what only looks like them is kept apart."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.envelope import enclosed, excluded_in, fields_without, opened, without_excluded
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


HOSTILE = [
    b"\xc1",
    b"\xc1\xff\xff{}",
    b"\xc1\0\1\xc1",
    b"\xc1\0\1\x90",
    b"\xc1\0\2\x80\x80",
    *(
        b"\xc1\0" + bytes([len(fields)]) + fields + b"{}"
        for fields in map(
            msgpack.packb, ({"x": 1}, {"x": ["a"]}, {"x": {"a": "b"}}, {"x": {"a": [b"b"]}}, {"x": {"a": 5}})
        )
    ),
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_what_is_no_envelope_cannot_be_read(payload: bytes) -> None:
    for read in (opened, excluded_in, partial(without_excluded, ["a"])):
        with pytest.raises(Undecodable):
            read(payload)


@given(
    st.one_of(
        st.binary(), st.builds(lambda size, rest: b"\xc1\0" + bytes([size]) + rest, st.integers(0, 20), st.binary())
    )
)
def test_any_bytes(payload: bytes) -> None:
    """They have members to leave out, or not, or cannot be read; there is no other error."""
    try:
        assert set(without_excluded(["a!1", "b"], payload)) <= {"a!1", "b"}
        assert opened(payload) == opened(payload)
    except Undecodable:
        with pytest.raises(Undecodable):
            excluded_in(payload)


PARTS = st.dictionaries(st.sampled_from(["a!", "b", "c.d!"]), st.lists(st.sampled_from(["", "1", "2"]), unique=True))


@given(PARTS, st.binary())
def test_who_is_excluded_is_left_out(parts: dict[str, list[str]], payload: bytes) -> None:
    excluded = {part: tuple(names) for part, names in parts.items()}
    enveloped = enclosed(payload, fields_without(excluded))
    assert opened(enveloped) == payload
    assert excluded_in(enveloped) == excluded
    names = ["a!1", "a!2", "a!", "b", "c.d!2", "e"]
    left_out = {part + name for part, locals_ in parts.items() for name in locals_}
    assert list(without_excluded(names, enveloped)) == [name for name in names if name not in left_out]


def test_names_that_no_channel_has_are_passed_over() -> None:
    parts: dict[str, Any] = {"a!": ["1", "1", "\xe9", "x" * 100], "": ["1"], "\xe9!": ["1"], "x" * 100: [""]}
    assert excluded_in(enclosed(b"", msgpack.packb({"x": parts}))) == {"a!": ("1",)}


def test_members_of_a_group_have_an_enveloped_payload_decrypted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = codec("json", ["secret"])
    enveloped = b"\xc1\0\0" + one.encode({"n": [1]}, "a")
    assert one.decode(enveloped, "a") == {"n": [1]}
    forbid_decryption(monkeypatch, one)
    assert one.decode(enveloped, "a") == {"n": [1]}
