"""Round trips through every serializer, encryption and its rotation, and what is refused."""

import base64
import hashlib
import json
import math
import pickle
import re
import subprocess
import sys
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.exceptions import (
    ConfigurationError,
    InvalidMessageType,
    InvalidMessageValue,
    MessageTooLarge,
    Undecodable,
)
from hybrid_layer.serializers import Codec, register_serializer, to_group
from tests.support.probe import own_serializers, when_decrypted, when_loaded
from tests.unit.samples import CONVERTED, MESSAGES, nested, same

MIB = 1024 * 1024


def codec(serializer_format: str = "msgpack", keys: Any = None, max_message_size: int = 4 * MIB) -> Codec:
    return Codec(
        LayerOptions(
            serializer_format=serializer_format, symmetric_encryption_keys=keys, max_message_size=max_message_size
        )
    )


def through(serializer_format: str, message: dict[str, Any], keys: Any = None) -> dict[str, Any]:
    one = codec(serializer_format, keys)
    return one.decode(one.encode(message, "a"), "a")


class Pickle:
    """A user's own serializer."""

    dumps = staticmethod(pickle.dumps)
    loads = staticmethod(pickle.loads)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a registry of its own."""
    own_serializers(monkeypatch)


formats = pytest.mark.parametrize("serializer_format", ["msgpack", "json", "pickle"])


@pytest.fixture(autouse=True)
def with_pickle(registry: None) -> None:
    register_serializer("pickle", Pickle())


LIKE_OURS = ["\0", "\0b", "\0s", "\0bAAAA", "\0s\0b", "\\u0000b", "a\0", "\u2028", '"\\u0000', "\\"]


@given(MESSAGES)
@example({text: [text, {text: text, "b": text.encode()}] for text in LIKE_OURS})
@example({"only keys": {"\0bAAAA": 1}})
@example({"int and float": [1, 1.0, 0, -0.0, 2**53 + 1, 2**63 - 1, -(2**63), 1e308, 5e-324]})
def test_round_trip(message: dict[str, Any]) -> None:
    for serializer_format in ("msgpack", "json"):
        assert same(through(serializer_format, message), message)


@formats
@pytest.mark.parametrize(("sent", "arrives"), CONVERTED)
def test_other_types_arrive_as_base_types(serializer_format: str, sent: Any, arrives: Any) -> None:
    message = {"a": sent, "b": [{"c": sent}]}
    assert same(through(serializer_format, message), {"a": arrives, "b": [{"c": arrives}]})
    assert message["a"] is sent
    assert message["b"][0]["c"] is sent


@formats
def test_not_a_number_and_infinities(serializer_format: str) -> None:
    arrived = through(serializer_format, {"x": [math.nan, math.inf, -math.inf]})
    assert math.isnan(arrived["x"][0])
    assert arrived["x"][1:] == [math.inf, -math.inf]


@formats
def test_minus_zero_keeps_its_sign(serializer_format: str) -> None:
    assert math.copysign(1, through(serializer_format, {"x": -0.0})["x"]) == -1


@formats
def test_deepest_message(serializer_format: str) -> None:
    assert through(serializer_format, nested(100)) == nested(100)
    with pytest.raises(InvalidMessageValue, match="100"):
        through(serializer_format, nested(101))


@formats
def test_every_decoded_message_is_a_new_one(serializer_format: str) -> None:
    one = codec(serializer_format)
    message: dict[str, Any] = {"a": {"b": [1]}}
    payload = one.encode(message, "a")
    first, second = one.decode(payload, "a"), one.decode(payload, "a")
    first["a"]["b"].append(2)
    assert message == second == {"a": {"b": [1]}}


@formats
@pytest.mark.parametrize("message", [{"a": {1}}, {1: 1}, None, [1]])
def test_the_message_is_checked(serializer_format: str, message: Any) -> None:
    with pytest.raises(InvalidMessageType):
        through(serializer_format, message)


@formats
@pytest.mark.parametrize(
    "message",
    [
        {"text": "x" * (4 * MIB - 200)},
        {"bytes": b"x" * (2 * MIB)},
        {"list": [0] * MIB},
        {"dict": {str(n): n for n in range(100_000)}},
    ],
    ids=["text", "bytes", "list", "dict"],
)
def test_large_messages(serializer_format: str, message: dict[str, Any]) -> None:
    assert through(serializer_format, message) == message


@formats
@pytest.mark.parametrize("keys", [None, ["secret"]])
def test_too_large(serializer_format: str, keys: Any) -> None:
    message = {"text": "x" * 100}
    size = len(codec(serializer_format).encode(message, "a"))
    # The limit is of the payload before encryption.
    codec(serializer_format, keys, max_message_size=size).encode(message, "a")
    with pytest.raises(MessageTooLarge) as caught:
        codec(serializer_format, keys, max_message_size=size - 1).encode(message, "group 'a'")
    text = str(caught.value)
    assert "group 'a'" in text
    assert f"{size} bytes" in text
    assert f"max_message_size={size - 1}" in text
    assert isinstance(caught.value, ValueError)


# JSON


def test_json_is_readable_by_others() -> None:
    payload = codec("json").encode({"type": "a", "\0key": ["\u00fc", b"\x00\xff", "\0x", 1.5, None, True]}, "a")
    assert json.loads(payload) == {"type": "a", "\0key": ["\u00fc", "\0bAP8=", "\0s\0x", 1.5, None, True]}
    assert "\u00fc".encode() in payload


@pytest.mark.parametrize("text", ["\0", "\0x", "\0b!", "\0bA", "\0bAP8=\n", "\0b\u00fc"])
def test_json_refuses_escapes_that_are_not_ours(text: str) -> None:
    with pytest.raises(Undecodable, match="not json"):
        codec("json").decode(json.dumps({"a": text}).encode(), "a")


# Damage


@formats
@pytest.mark.parametrize("keys", [None, ["secret"]])
@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\xff" * 100, b"[" * 100_000, b"\x91" * 100_000, b"\xdf\xff\xff\xff\xff"]
)
def test_damaged_payload(serializer_format: str, keys: Any, payload: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        codec(serializer_format, keys).decode(payload, "a")
    assert str(caught.value)


@given(st.binary(max_size=60), st.sampled_from(["msgpack", "json"]))
def test_any_bytes_are_a_dict_or_undecodable(payload: bytes, serializer_format: str) -> None:
    try:
        assert type(codec(serializer_format).decode(payload, "a")) is dict
    except Undecodable:
        pass


@pytest.mark.parametrize(
    ("serializer_format", "payload"), [("msgpack", b"\x91\x01"), ("json", b"[1]"), ("json", b'"a"')]
)
def test_a_payload_that_is_no_dict(serializer_format: str, payload: bytes) -> None:
    with pytest.raises(Undecodable, match="not a dict"):
        codec(serializer_format).decode(payload, "a")


@formats
def test_cut_payload(serializer_format: str) -> None:
    one = codec(serializer_format)
    payload = one.encode({"a": ["text", b"bytes", 1]}, "a")
    for end in range(len(payload)):
        with pytest.raises(Undecodable):
            one.decode(payload[:end], "a")


# Encryption


@formats
@pytest.mark.parametrize("keys", [["secret"], (b"secret", "old"), ["\u00fc" * 100]])
def test_encrypted_round_trip(serializer_format: str, keys: Any) -> None:
    message = {"type": "a", "b": b"\0", "c": ["\0"]}
    assert through(serializer_format, message, keys) == message
    assert b"type" not in codec(serializer_format, keys).encode(message, "a")


def test_the_receivers_name_is_inside_the_cipher() -> None:
    """A program that writes to the server, without a key, cannot move a message to another channel or group."""
    one = codec(keys=["secret"])
    to_user, to_members = one.encode({"n": 1}, "user"), one.encode({"n": 2}, to_group("users"))
    assert one.decode(to_user, "user") == {"n": 1}
    with pytest.raises(Undecodable, match="for another channel"):
        one.decode(to_user, "admin")
    for member in ("user", "specific.PROCESS!1"):
        assert one.decode(to_members, member) == {"n": 2}
    assert one.decode(to_user, "user") == {"n": 1}
    assert one.decode(one.encode({"n": 3}, "specific.PROCESS!1"), "specific.PROCESS!") == {"n": 3}


def test_rotation() -> None:
    old, both, new = codec(keys=["old"]), codec(keys=["new", "old"]), codec(keys=["new"])
    message = {"a": 1}
    assert both.decode(old.encode(message, "a"), "a") == message
    assert new.decode(both.encode(message, "a"), "a") == message  # the first encrypts
    for writer, reader in ((old, new), (new, old), (both, old)):
        with pytest.raises(Undecodable, match="none of symmetric_encryption_keys decrypts it"):
            reader.decode(writer.encode(message, "a"), "a")


def test_members_of_a_group_have_the_payload_decrypted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get the same bytes object one after the other. Each gets a message of its own."""
    both = codec(keys=["one", "other"])
    first, second = both.encode({"a": [1]}, "a"), both.encode({"a": [2]}, "a")
    decrypted: list[bytes] = []
    when_decrypted(monkeypatch, both, decrypted.append)
    ours = [both.decode(payload, "a") for payload in (first, first, second, second, first)]
    assert [message["a"] for message in ours] == [[1], [1], [2], [2], [1]]
    assert ours[0]["a"] is not ours[1]["a"]
    assert decrypted == [first, second, first]
    for _ in range(2):
        with pytest.raises(Undecodable, match="none of symmetric_encryption_keys decrypts it"):
            both.decode(b"", "a")


@formats
@pytest.mark.parametrize("keys", [None, ["secret"]])
@pytest.mark.parametrize("value", ["x", 1, None, 1.5, True, b"x", [1], {"b": [1]}])
def test_members_of_a_group_share_nothing_that_can_be_changed(
    serializer_format: str, keys: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message whose values cannot be changed is decoded for the first two members, and copied for the others."""
    one = codec(serializer_format, keys)
    loaded: list[bytes] = []
    when_loaded(monkeypatch, one, loaded.append)
    payload, other = (codec(serializer_format, keys).encode({"a": value, "n": n}, "a") for n in range(2))
    for payload_now, n in [(payload, 0), (other, 1)]:
        for member in range(5):
            message = one.decode(payload_now, "a")
            assert message == {"a": value, "n": n}
            if type(value) is dict:
                message["a"]["b"].append("changed")
            elif type(value) is list:
                message["a"].append("changed")
            message["more"] = member
        assert len(loaded) == (5 if type(value) in (list, dict) else 2)
        loaded.clear()


def test_str_and_bytes_keys_are_the_same() -> None:
    assert codec(keys=["\u00fc"]).decode(codec(keys=["\u00fc".encode()]).encode({"a": 1}, "a"), "a") == {"a": 1}


def test_derivation_of_the_key() -> None:
    token = codec("json", keys=["secret"]).encode({"a": 1}, "a")
    fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"secret").digest()))
    assert fernet.decrypt(token) == b'a\0{"a":1}'


def test_changed_token() -> None:
    one = codec(keys=["secret"])
    token = bytearray(one.encode({"a": 1}, "a"))
    token[len(token) // 2] ^= 1
    with pytest.raises(Undecodable):
        one.decode(bytes(token), "a")


@pytest.mark.parametrize("keys", [None, [], ()])
def test_no_keys_no_encryption(keys: Any) -> None:
    assert codec("json", keys).encode({"a": 1}, "a") == b'{"a":1}'


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("my secret", "must be a list of keys, not str; put a single key into a list"),
        (b"my secret", "must be a list of keys, not bytes"),
        ({"my secret"}, "must be a list of keys, not set"),
        (5, "must be a list of keys, not int"),
        (["my secret", None], "symmetric_encryption_keys[1] must be a str or bytes that is not empty, not NoneType"),
        ([["my secret"]], "symmetric_encryption_keys[0] must be"),
        ([""], "symmetric_encryption_keys[0] must be a str or bytes that is not empty, not empty"),
        (["my secret", b""], "symmetric_encryption_keys[1]"),
    ],
)
def test_refused_keys_are_not_shown(keys: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        codec(keys=keys)
    assert "my secret" not in str(caught.value)


def test_cryptography_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    codec()
    with pytest.raises(ConfigurationError, match=re.escape("pip install hybrid_layer[cryptography]")):
        codec(keys=["secret"])


def test_cryptography_is_imported_for_keys_only() -> None:
    program = """if True:
        import sys
        from hybrid_layer.configuration import LayerOptions
        from hybrid_layer.serializers import Codec
        Codec(LayerOptions())
        assert "cryptography" not in sys.modules
        Codec(LayerOptions(symmetric_encryption_keys=["a"]))
        assert "cryptography" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Options and the registry


def test_unknown_format() -> None:
    with pytest.raises(ConfigurationError) as caught:
        codec("msgpak")
    text = str(caught.value)
    assert "serializer_format='msgpak' is not known. Did you mean 'msgpack'?" in text
    assert "Known formats: json, msgpack, pickle." in text


@pytest.mark.parametrize("serializer_format", [None, 5, ["json"], b"json"])
def test_format_that_is_no_str(serializer_format: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"serializer_format={serializer_format!r} is not known")):
        codec(serializer_format)


def test_a_registered_serializer_may_replace_a_built_in_one() -> None:
    before = codec("json")
    register_serializer("json", Pickle())
    message = {"a": 1}
    assert pickle.loads(codec("json").encode(message, "a")) == message
    assert before.encode(message, "a") == b'{"a":1}'


@pytest.mark.parametrize("name", ["", None, 5])
def test_registered_name_must_be_a_str(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name must be a str"):
        register_serializer(name, Pickle())


def test_registered_object_must_have_both_methods() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("has no method dumps()")):
        register_serializer("x", object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="has no method"):
        register_serializer("x", pickle.dumps)  # type: ignore[arg-type]


class Broken:
    def __init__(self, result: Any) -> None:
        self.result = result

    def dumps(self, message: dict[str, Any], /) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    loads = dumps


@pytest.mark.parametrize("result", ["text", None, bytearray(b"a"), 5])
def test_serializer_that_returns_no_bytes(result: Any) -> None:
    register_serializer("mine", Broken(result))
    text = (
        f"'mine' is broken: its dumps() returned {type(result).__name__} for the message to group 'a'; it must return"
    )
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        codec("mine").encode({"a": 1}, "group 'a'")
    with pytest.raises(Undecodable, match="not a dict"):
        codec("mine").decode(b"x", "a")


def test_serializer_that_raises() -> None:
    problem = KeyError("why")
    register_serializer("mine", Broken(problem))
    text = "The serializer 'mine' cannot serialize the message to group 'a': KeyError: 'why'"
    with pytest.raises(InvalidMessageValue, match=re.escape(text)) as caught:
        codec("mine").encode({"a": 1}, "group 'a'")
    assert caught.value.__cause__ is problem
    with pytest.raises(Undecodable, match="it is not mine: KeyError: 'why'"):
        codec("mine").decode(b"x", "a")
