"""Commands, links and lists of files in the texts: what they name is there, and what is there is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docutils import nodes

from tests.docs import texts
from tests.docs.texts import ROOT

ARCHITECTURE = "docs/architecture.rst"
FRONT = "docs/index.rst"


@pytest.mark.parametrize("name", texts.TEXTS)
def test_links_within_the_project(name: str) -> None:
    for path, anchor in texts.links(name):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in texts.anchors(path), f"{path}#{anchor}"


def test_a_link_that_leads_nowhere_is_found() -> None:
    assert ("docs/upgrading.rst", "what-to-watch") in texts.links(FRONT)
    assert "what-to-watch" in texts.anchors("docs/upgrading.rst")
    assert "what-to-eat" not in texts.anchors("docs/upgrading.rst")


def test_who_comes_from_channels_redis_finds_the_way_in_two_clicks() -> None:
    first = set(texts.links(FRONT))
    second = {link for path, _ in first if path.endswith(".rst") for link in texts.links(path)}
    for page, title in {
        "docs/migrating.rst": "From channels_redis.core",
        "docs/upgrading.rst": "Back to channels_redis",
    }.items():
        assert texts.section(page, title)["ids"]
        assert (page, texts.section(page, title)["ids"][0]) in first | second
    assert ("docs/upgrading.rst", "what-to-watch") in first | second


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.rst").read_text().splitlines()) <= 140
    assert (
        len(texts.tree("README.rst").astext().split()) <= 750
    )  # a hundred of them are in blocks that nobody reads aloud


def test_the_figures_of_the_readme_are_those_of_the_comparison() -> None:
    (rows,) = [table for table in texts.tree("README.rst").findall(nodes.table) if "In use" in table.astext()]
    figures = re.findall(r"\b\d[\d.,]*\d\b", rows.astext())
    assert len(figures) >= 4
    comparison = texts.tree("docs/comparison.rst").astext()
    for figure in figures:
        assert figure in comparison, figure


@pytest.mark.parametrize("name", [name for name in texts.TEXTS if name.startswith("docs/")])
def test_a_page_opens_with_what_its_reader_wants(name: str) -> None:
    """A paragraph before the first heading, list or block. No list of contents: the site has one beside each page."""
    body = [node for node in texts.tree(name).children if not isinstance(node, nodes.comment | nodes.title)]
    assert isinstance(body[0], nodes.paragraph)
    assert not list(
        texts.tree(name).findall(lambda node: "contents" in getattr(node, "attributes", {}).get("classes", []))
    )


@pytest.mark.parametrize("name", texts.TEXTS)
def test_make_targets(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"``make ([a-z-]+)", (ROOT / name).read_text()))
    assert named <= targets


def mapped_files() -> Iterator[Path]:
    """The files of the code map, whose lines are indented as the files are nested."""
    (block,) = [text for text in texts.code(texts.tree(ARCHITECTURE), "text") if text.startswith("hybrid_layer/\n")]
    folders: list[str] = []
    for line in block.splitlines():
        name = re.match(r" *(\S+/|\S+\.[a-z]+)( |$)", line)
        assert name is not None, line
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name[1]]
        if not name[1].endswith("/"):
            yield Path(*folders[:-1], name[1])


def test_the_code_map_is_the_tree() -> None:
    built = {".so", ".pyc"}
    real = {
        path.relative_to(ROOT)
        for path in (ROOT / "hybrid_layer").rglob("*")
        if path.is_file() and path.suffix not in built and path.name not in {"__init__.py", "py.typed"}
    }
    # A header has its line in the .c file's.
    real = {path for path in real if path.suffix != ".h" or path.with_suffix(".c") not in real}
    mapped = list(mapped_files())
    assert sorted(mapped) == sorted(set(mapped)), "a file is there twice"
    assert set(mapped) == real


@pytest.mark.parametrize("page", [ARCHITECTURE, "CONTRIBUTING.rst"])
def test_files_that_are_named(page: str) -> None:
    """The checklists of CONTRIBUTING name files to be changed: each is there."""
    named = [
        literal.astext()
        for literal in texts.tree(page).findall(nodes.literal)
        if re.fullmatch(r"[\w/]+(\.(py|c|h|lua|rst)|/)", literal.astext())
    ]
    assert len(named) > 10
    for text in named:
        found = [*ROOT.glob(text), *(ROOT / "hybrid_layer").rglob(text), *(ROOT / "tests").rglob(text)]
        assert found, f"there is no {text}"


def test_names_of_code_in_the_architecture() -> None:
    """Each ``function()`` or ``Class.method`` that the page names exists."""
    sources = "\n".join(
        path.read_text() for path in (ROOT / "hybrid_layer").rglob("*") if path.suffix in {".py", ".c", ".h", ".lua"}
    )
    for literal in texts.tree(ARCHITECTURE).findall(nodes.literal):
        text = literal.astext()
        if re.fullmatch(r"[A-Z]\w+\.\w+", text):
            class_name, _, method = text.partition(".")
            assert re.search(rf"class {class_name}\b", sources), text
            assert re.search(rf"def {method}\b", sources), text
        elif re.fullmatch(r"[a-z_]\w*_\w+", text):
            assert re.search(rf"\b{text}\b", sources), text


def test_the_tests_of_the_promises() -> None:
    """Each command of docs/reliability.rst names tests that are there."""
    commands = [
        literal.astext() for literal in texts.section("docs/reliability.rst", "How it is tested").findall(nodes.literal)
    ]
    assert len(commands) >= 20
    for command in commands:
        named = re.findall(r"tests[/.][\w/.]+", command)
        assert named or command == "make portable" or command.startswith("make chaos"), command
        for path in named:
            module = path if path.endswith(".py") or "/" in path else path.replace(".", "/") + ".py"
            program = f"{path.replace('.', '/')}/__main__.py"
            assert (ROOT / module).exists() or (ROOT / program).exists(), path
