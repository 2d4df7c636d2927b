"""Counters that lose nothing, and warnings that are throttled."""

import logging
import threading

import pytest

from hybrid_layer import statistics
from hybrid_layer.statistics import KEYS, MAX_WARN_KEYS, Statistics, ThrottledLog
from tests.support.probe import counted_keys


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_key_is_always_there() -> None:
    assert Statistics().as_dict() == dict.fromkeys(KEYS, 0)
    reasons = {"full", "expired", "dead", "slow", "memory", "damaged", "undecodable", "errors"}
    assert set(KEYS) == {"sent", "received", *reasons}


def test_counts() -> None:
    counters = Statistics()
    counters.count("sent")
    counters.count("sent", 4)
    counters.count("full")
    assert counters.as_dict() == dict.fromkeys(KEYS, 0) | {"sent": 5, "full": 1}


def test_unknown_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        Statistics().count("sended")


def test_each_object_counts_for_itself() -> None:
    one, other = Statistics(), Statistics()
    one.count("sent")
    assert other.as_dict()["sent"] == 0


def test_threads_lose_no_count() -> None:
    counters = Statistics()

    def work() -> None:
        for _ in range(20_000):
            counters.count("received")

    for _ in range(2):  # the second time, thread ids are used again
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        counters.as_dict()
        for thread in threads:
            thread.join()
    assert counters.as_dict()["received"] == 160_000


def test_warns_once_a_minute_and_key(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    warnings = ThrottledLog(clock)
    for _ in range(5):
        warnings.warn(("slow", "a"), "a is slow.")
    warnings.warn(("slow", "b"), "b is slow.")
    assert caplog.messages == ["a is slow.", "b is slow."]
    clock.now += 59.9
    warnings.warn(("slow", "a"), "a is slow.")
    assert len(caplog.messages) == 2
    clock.now += 0.1
    warnings.warn(("slow", "a"), "a is slow.")
    warnings.warn(("slow", "b"), "b is slow.")
    assert caplog.messages[2:] == [
        "a is slow. (5 more such warnings were held back since the last one.)",
        "b is slow.",
    ]
    assert caplog.record_tuples[0][:2] == ("hybrid_layer", logging.WARNING)


def test_text_is_logged_as_it_is(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    warnings = ThrottledLog(clock)
    for _ in range(2):
        warnings.warn("b", "100% full of %s")
        clock.now += 60
    assert caplog.messages == ["100% full of %s"] * 2


def test_many_keys_share_one_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    warnings = ThrottledLog(clock)
    for n in range(10 * MAX_WARN_KEYS):
        warnings.warn(n, f"{n}")
    assert len(caplog.messages) == MAX_WARN_KEYS + 1
    assert counted_keys(warnings) == MAX_WARN_KEYS + 1
    clock.now += 60
    warnings.warn("new", "new")
    assert caplog.messages[-1] == "new"
    assert counted_keys(warnings) == 1


def test_warning_of_the_whole_process(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        statistics.warn(("unit test of the whole process",), "text")
    assert caplog.messages == ["text"]
