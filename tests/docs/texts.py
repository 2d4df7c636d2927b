"""What the texts say, as the tests need it: read from their document tree, not from their lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).parent.parent.parent


@cache
def tree(name: str) -> nodes.document:
    """The document tree of a text, by its path in the project."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # docutils announces changes of its own to those who write extensions
        return publish_doctree(
            (ROOT / name).read_text(),
            source_path=str(ROOT / name),  # what a text includes lies beside it
            settings_overrides={"halt_level": 2, "report_level": 2},
        )


def sections(name: str) -> Iterator[tuple[str, nodes.section]]:
    """Titles and sections, from the outside in."""
    for section in tree(name).findall(nodes.section):
        yield section[0].astext(), section


def section(name: str, title: str) -> nodes.section:
    """The section with that title."""
    return dict(sections(name))[title]


def code(where: nodes.Element, language: str) -> list[str]:
    """The blocks of code in a language; "" for literal blocks of none."""
    return [
        block.astext()
        for block in where.findall(nodes.literal_block)
        if [name for name in block["classes"] if name != "code"] == ([language] if language else [])
    ]


def first_cells(where: nodes.Element) -> list[list[str]]:
    """For each table, the text of the first cell of each row."""
    return [
        [row[0].astext() for body in table.findall(nodes.tbody) for row in body.findall(nodes.row)]
        for table in where.findall(nodes.table)
    ]
