"""What the texts say, as the tests need it: read from their document tree, not from their lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles

ROOT = Path(__file__).parent.parent.parent

TEXTS = [
    str(path.relative_to(ROOT))
    for pattern in ("*.rst", "docs/*.rst", "examples/*/*.rst", "benchmarks/*.rst")
    for path in sorted(ROOT.glob(pattern))
]


class _OfSphinx(Directive):
    """A directive that docutils does not know, and what stands in it: for the tests, its argument and its lines."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = None

    def run(self) -> list[nodes.Node]:
        node = nodes.comment("", "\n".join(self.content))
        node["sphinx"] = self.name
        node["argument"] = self.arguments[0] if self.arguments else ""
        return [node]


class _AnyOption(dict[str, Any]):
    def __getitem__(self, name: str) -> Any:
        return directives.unchanged


_OfSphinx.option_spec = _AnyOption(any=directives.unchanged)

for _name in ("toctree", "autoclass", "autofunction", "automodule"):
    directives.register_directive(_name, _OfSphinx)
for _name in ("class", "doc", "exc", "func", "meth", "mod", "ref"):
    roles.register_generic_role(_name, nodes.literal)


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


def source(node: nodes.Node) -> Path:
    """The file in which the node stands: the text itself, or one that it includes."""
    while node.source is None:
        node = node.parent
    return (ROOT / node.source).resolve()


def sphinx(name: str, directive: str) -> list[nodes.Element]:
    """The directives of that name, each with its ``argument``; its lines are its text."""
    return [node for node in tree(name).findall(nodes.comment) if node.get("sphinx") == directive]


def anchors(name: str) -> set[str]:
    """What may stand behind the # of a link to the text."""
    return set(tree(name).ids)


def links(name: str) -> Iterator[tuple[str, str]]:
    """The links of a text to other files of the project: the path in the project, and what stands behind the #."""
    for reference in tree(name).findall(nodes.reference):
        path, _, anchor = reference.get("refuri", "").partition("#")
        if path and ":" not in path:
            target = source(reference.parent).parent.joinpath(path).resolve()
            yield str(target.relative_to(ROOT)), anchor


def sections(name: str) -> Iterator[tuple[str, nodes.section]]:
    """Titles and sections, from the outside in."""
    for section in tree(name).findall(nodes.section):
        yield section[0].astext(), section


def section(name: str, title: str) -> nodes.section:
    """The section with that title."""
    return dict(sections(name))[title]


def language(block: nodes.literal_block) -> str:
    """The language of a block of code; "" if it names none."""
    return next((name for name in block["classes"] if name != "code"), "")


def code(where: nodes.Element, name: str) -> list[str]:
    """The blocks of code in a language."""
    return [block.astext() for block in where.findall(nodes.literal_block) if language(block) == name]


def first_cells(where: nodes.Element) -> list[list[str]]:
    """For each table, the text of the first cell of each row."""
    return [
        [row[0].astext() for body in table.findall(nodes.tbody) for row in body.findall(nodes.row)]
        for table in where.findall(nodes.table)
    ]
