"""What the tests keep to: they wait for states, and know of private structure in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
HELPERS = TESTS / "support" / "waiting.py"
PROBE = TESTS / "support" / "probe.py"

SLEEPS = 20
"""At most. Each says in a comment why nothing else would do."""
_SLEEPS = {"asyncio.sleep", "time.sleep", "timers.sleep", "sleep", "threading.Timer"}
FOREIGN = {
    *("_asdict", "_fields", "_make", "_replace"),  # of named tuples: public, whatever they look like
    *("_exit", "_getframe", "_run_exitfuncs", "_set_running_loop"),  # of Python's own modules
    *("_PyTask", "_fixtureinfo", "_log_destroy_pending", "_retries"),  # there is no other way
    *("_core", "_inbox"),  # modules: the extensions
}
"""Private names of others than hybrid_layer, and of the tests' own modules."""


def sleeps(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _SLEEPS:
            yield node


def test_tests_wait_for_states() -> None:
    found = {f"{path.relative_to(TESTS)}:{call.lineno}" for path in FILES if path != HELPERS for call in sleeps(path)}
    assert len(found) <= SLEEPS, sorted(found)


@pytest.mark.parametrize("path", [path for path in FILES if path != HELPERS], ids=lambda path: path.stem)
def test_a_sleep_says_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    for call in sleeps(path):
        assert "# " in lines[call.lineno - 1], f"{path}:{call.lineno}: why does it sleep?"
        assert ast.unparse(call) not in ("asyncio.sleep(0)", "time.sleep(0)"), f"{path}:{call.lineno}: write turns()"


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a test's module gives to something itself."""
    names = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("path", [path for path in FILES if path != PROBE], ids=lambda path: path.stem)
def test_what_is_private_is_seen_by_the_probe_alone(path: Path) -> None:
    tree = ast.parse(path.read_text())
    known = FOREIGN | own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_ones_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert is_ones_own or not is_private(node.attr) or node.attr in known, f"{path}:{node.lineno}: {node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch.object")):
            names = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)]
            assert not any(map(is_private, names)), f"{path}:{node.lineno}: {names[0]}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hybrid_layer"):
            for alias in node.names:
                assert not is_private(alias.name) or alias.name in known, f"{path}:{node.lineno}: {alias.name}"


def is_private(name: str) -> bool:
    return re.match(r"_[^_]", name) is not None
