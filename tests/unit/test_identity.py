"""A value for each process: made once, made again by a forked child, and the parent's stays unchanged."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid_layer.identity import PerProcess
from tests.support.forked import fork, wait_for


class Value:
    """An object that differs from any other."""


def test_it_is_made_at_first_use_and_once_for_all_threads() -> None:
    holder: PerProcess[Value] = PerProcess()
    made: list[Value] = []
    assert holder.peek() is None

    def make() -> Value:
        time.sleep(0.01)  # the others come meanwhile
        made.append(Value())
        return made[-1]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: holder.get(make), range(8)))
    assert found == set(made) == {holder.peek()}
    assert len(made) == 1


def test_an_error_keeps_nothing() -> None:
    holder: PerProcess[Value] = PerProcess()

    def fail() -> Value:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        holder.get(fail)
    assert holder.peek() is None
    assert isinstance(holder.get(Value), Value)


def test_cleared_it_makes_another_and_frees_the_first() -> None:
    holder: PerProcess[Value] = PerProcess()
    first = weakref.ref(holder.get(Value))
    holder.clear()
    assert first() is None
    assert isinstance(holder.get(Value), Value)


def test_a_child_makes_its_own_and_keeps_that_of_its_parent() -> None:
    """Also if another thread of the parent made one at that moment."""
    holder: PerProcess[Value] = PerProcess()
    parents = weakref.ref(holder.get(Value))
    entered, end = threading.Event(), threading.Event()

    def make_slowly() -> Value:
        entered.set()
        end.wait()
        return Value()

    slow: PerProcess[Value] = PerProcess()
    thread = threading.Thread(target=slow.get, args=[make_slowly])
    thread.start()
    entered.wait()

    def check() -> None:
        assert holder.peek() is None
        assert holder.last is parents()
        assert holder.get(Value) is not parents()
        assert slow.get(Value) is slow.peek()
        holder.clear()
        assert parents() is not None

    child = fork(check)
    end.set()
    thread.join()
    wait_for(child)
    assert holder.peek() is parents()
