"""Links between texts work on the site as they do in the repository: `hosts.rst <hosts.rst>`_, with #anchors, too.

Such a link leads to the page that is this file, or that includes it, and shows its title if its text is only the file's
name. A link to a file of another kind offers it for download. A link that leads nowhere is a warning, as any unknown
reference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform


class FileLinks(SphinxTransform):
    """Turns relative links into references that Sphinx resolves when it has read all pages."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        for node in [*self.document.findall(nodes.reference)]:
            uri = node.get("refuri", "")
            if not uri or uri.startswith("#") or ":" in uri:
                continue
            name, _, anchor = uri.partition("#")
            file = source_of(node).parent.joinpath(name).resolve()
            node.replace_self(self.page(node, file, anchor) if file.suffix == ".rst" else self.download(node, file))

    def page(self, node: nodes.reference, file: Path, anchor: str) -> nodes.Node:
        reference = addnodes.pending_xref(
            "", refdomain="", reftype="file", reftarget=str(file), anchor=anchor, refdoc=self.env.docname, refwarn=True
        )
        reference.source, reference.line = node.parent.source, node.parent.line
        reference += nodes.inline("", "", *node.children)
        return reference

    def download(self, node: nodes.reference, file: Path) -> nodes.Node:
        target = os.path.relpath(file, Path(self.env.doc2path(self.env.docname)).parent)
        return addnodes.download_reference("", "", *node.children, refdoc=self.env.docname, reftarget=target)


def source_of(node: nodes.Node) -> Path:
    """The file that the node was written in. In an included text it is not the page."""
    while node.source is None:
        node = node.parent
    return Path(node.source).resolve()


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """The reference for a link to a text. None if there is no such page, or no such anchor on it."""
    if node["reftype"] != "file":
        return None
    page = page_of(env, Path(node["reftarget"]))
    anchor = node["anchor"]
    if page is None or (anchor and anchor not in env.get_doctree(page).ids):
        return None
    if Path(content.astext()).name == Path(node["reftarget"]).name:
        content = nodes.inline("", env.titles[page].astext())
    uri = app.builder.get_relative_uri(node["refdoc"], page) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", "", content, internal=True, refuri=uri)


def page_of(env: BuildEnvironment, file: Path) -> str | None:
    """The page that is this file, or that includes it."""
    for name in env.found_docs:
        files = [Path(env.doc2path(name)), *(env.srcdir / each for each in env.dependencies[name])]
        if any(each.resolve() == file for each in files):
            return name
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(FileLinks)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
