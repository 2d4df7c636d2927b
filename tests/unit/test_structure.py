"""What may know what: the picture of the architecture, as a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hybrid_layer"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES = 400

SHARED = {
    *(
        "arguments",
        "base",
        "clock",
        "configuration",
        "discretion",
        "envelope",
        "exceptions",
        "identity",
        "inbox",
        "interruption",
        "loops",
        "messages",
        "names",
        "options",
        "policy",
        "propagation",
        "serializers",
        "several",
    ),
    *("source", "statistics", "supervision", "timers", "transport"),
}
"""What both halves may use. None of it knows a half, or the router."""


TOOLS = {"apps", "checks", "commands", "contrib", "management", "testing"}
"""What operators and testers use, above the layers: it may know all of them, and none of them knows it."""


PARENTS = {"hybrid_layer", "hybrid_layer.ipc", "hybrid_layer.remote"}
"""To import something else from these, such as the compiled core, is to import no module of ours."""


def imports(path: Path, at_import_only: bool = False) -> set[str]:
    """The modules of this package that a file imports, with what is in them: "hybrid_layer.ipc.segment"."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_import_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "hybrid_layer"}


def parts(path: Path) -> set[str]:
    """The first part below the package of each import: "ipc", "remote", "base" ..."""
    return {name.split(".")[1] for name in imports(path) if "." in name}


def half_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_knows_whom(path: Path) -> None:
    known = parts(path)
    half = half_of(path)
    if half in TOOLS or path.stem in ("apps", "__main__"):
        assert known <= SHARED | TOOLS | {"ipc", "layer", "remote", "router"}
    elif half == "interpreted":
        assert known <= SHARED - {"inbox"} | {half}
    elif half == "postgres":  # a Django app, over the schema of the remote half
        assert known <= {"exceptions", "remote"}
    elif half:
        assert known <= SHARED | {half}
    elif path.stem == "inbox":
        assert known == {"_inbox", "interpreted"}
    elif path.stem == "layer":
        assert known >= {"ipc", "remote", "router"}
    elif path.stem == "__init__":
        assert known <= {"layer"}
    elif path.stem == "types":
        assert known <= {"statistics"}
    elif path.stem == "router":
        assert known <= {"exceptions", "options"}
    else:
        assert path.stem in SHARED
        assert known <= SHARED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_says_what_it_owns(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.[ch]")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_c_file_says_what_it_owns(path: Path) -> None:
    assert path.read_text().startswith("/* ")


SOURCES = [*MODULES, *sorted(PACKAGE.rglob("*.[ch]")), *sorted(PACKAGE.rglob("*.lua"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_subject_per_file(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


def test_imports_run_one_way() -> None:
    """Without a circle, also among imports for types alone and those within functions."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    known = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found = {each if each in modules else each.rpartition(".")[0] for each in imports(path)}
        known[name] = (found & modules) - {name} - PARENTS
    TopologicalSorter(known).prepare()  # raises CycleError, which names them


REMOTE = PACKAGE / "remote"
ORDER = [
    "postgres",
    "postgres.schema",
    "redis",
    "redis.connections",
    "redis.hosts",
    "redis.scripts",
    "redis.server",
    "redis.wire",
    "",
    "delivery",
    "runtime",
]
"""The folders of the remote half, with "" for itself: each may import those behind it."""
REMOTE_LINES = 300


def folder_of(module: str) -> str:
    """The folder in the remote half of a module that is written "hybrid_layer.remote.redis.store"."""
    rest = module.removeprefix("hybrid_layer.remote").removeprefix(".")
    return next(
        folder for folder in sorted(ORDER, key=len, reverse=True) if f"{rest}.".startswith(f"{folder}.") or not folder
    )


@pytest.mark.parametrize("path", sorted(REMOTE.rglob("*.py")), ids=lambda path: str(path.relative_to(REMOTE)))
def test_folders_of_the_remote_half(path: Path) -> None:
    own = ".".join(path.relative_to(REMOTE).parts[:-1])
    assert own in ORDER, "where does this folder stand?"
    known = {folder_of(name) for name in imports(path) if name.startswith("hybrid_layer.remote.")} - {own}
    if path != REMOTE / "__init__.py":  # which names what users import
        assert all(ORDER.index(folder) > ORDER.index(own) for folder in known), known
    tree = ast.parse(path.read_text())
    names = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    if own in ("", "delivery", "runtime"):
        assert not {name for name in names if name.partition(".")[0] == "redis"}
    assert len(path.read_text().splitlines()) < REMOTE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


OF_SEVERAL_PROCESSES = 29
"""Contract tests that a store in the memory of one process cannot pass, and are marked `processes` for that."""


def test_how_many_contract_tests_the_store_in_memory_is_spared() -> None:
    spared = 0
    for path in (ROOT / "tests" / "contract").glob("test_*.py"):
        tree = ast.parse(path.read_text())
        module_is_marked = any(
            isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node) and "mark.processes" in ast.unparse(node)
            for node in tree.body
        )
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                spared += module_is_marked or any("mark.processes" in ast.unparse(each) for each in node.decorator_list)
    assert spared == OF_SEVERAL_PROCESSES


def test_core_without_python() -> None:
    """All files of the core but the binding are plain C, for tests and other languages."""
    for path in sorted((PACKAGE / "ipc" / "_core").rglob("*.[ch]")):
        if not path.name.startswith("binding"):
            text = path.read_text()
            assert "Python.h" not in text
            assert "binding" not in [
                line.partition('"')[2].split(".")[0] for line in text.splitlines() if "#include" in line
            ]


INCLUDE = re.compile(r'^#include "(\w+)\.h"', re.MULTILINE)
DECLARED = re.compile(r"^[a-zA-Z][^;{}()#=]*?\b(\w+)\([^{}]*?\);", re.MULTILINE)
DEFINED = re.compile(r"^[a-zA-Z][^;{}()#=]*?\b(\w+)\([^;{}]*\) \{", re.MULTILINE)


def c_modules(directory: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """For each C file its header's modules: those whose headers it or its header includes; and what it implements.

    A header is implemented by the files that define its functions, usually the one of the same name.
    """
    texts: dict[Path, str] = {}
    for path in sorted(directory.rglob("*.[ch]")):
        texts[path] = re.sub(r"/\*.*?\*/|\binline\b", "", path.read_text(), flags=re.DOTALL)
    included: dict[str, set[str]] = {}
    implemented: dict[str, set[str]] = {}
    for path, text in texts.items():
        included.setdefault(path.stem, set()).update(INCLUDE.findall(text))
        if path.suffix == ".h":
            declared = set(DECLARED.findall(text))
            sources = [other for other in texts if other.suffix == ".c"]
            implemented[path.stem] = {
                other.stem for other in sources if declared & set(DEFINED.findall(texts[other]))
            } | {path.stem}
    return included, implemented


def test_core_without_a_circle() -> None:
    """No file of the core calls another one that calls it, be it over further files. The binding is one room."""
    included, implemented = c_modules(PACKAGE / "ipc" / "_core")
    for header, sources in implemented.items():
        if not header.startswith("binding"):
            assert sources == {header}, f"{header}.h declares what is in another file"
    known = {
        name: set().union(*(implemented[header] for header in headers)) - {name}
        for name, headers in included.items()
        if not name.startswith("binding")
    }
    assert len(known) > 20
    assert "queues" in known["operations"]
    TopologicalSorter(known).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize(
    ("statement", "unloaded"),
    [
        ("import hybrid_layer", {"channels", "django", "typing", "hybrid_layer.layer"}),
        (
            "from hybrid_layer import HybridChannelLayer; HybridChannelLayer()",
            {"redis", "psutil", "cryptography", "hybrid_layer.remote.transport"},
        ),
        (
            "from hybrid_layer.ipc import IPCChannelLayer; IPCChannelLayer()",
            {"redis", "psutil", "cryptography", "hybrid_layer.remote"},
        ),
        (
            "from hybrid_layer.remote import RedisChannelLayer; RedisChannelLayer()",
            {"posix_ipc", "hybrid_layer.layer", "hybrid_layer.ipc._core"},
        ),
    ],
)
def test_what_is_not_needed_is_not_loaded(statement: str, unloaded: set[str]) -> None:
    code = f"{statement}; import sys; print(*sorted(set(sys.modules) & {unloaded!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("print(*dir(hybrid_layer))", "HybridChannelLayer"),
        ("help(hybrid_layer)", "class HybridChannelLayer"),
        ("from hybrid_layer import *; print(HybridChannelLayer)", "'hybrid_layer.layer.HybridChannelLayer'"),
    ],
)
def test_the_hybrid_is_found_before_its_first_use(statement: str, said: str) -> None:
    code = f"import hybrid_layer; {statement}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said in found.stdout
