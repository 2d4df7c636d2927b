"""Refuses a release that does not say who makes it, where it lives, and what is new: `release_ready.py [TAG]`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
URLS = ["Changelog", "Documentation", "Issues", "Source"]


def missing(root: Path, tag: str | None = None) -> list[str]:
    """What is to be done before."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    todo = []
    if not any(each.get("name") and each.get("email") for each in project.get("maintainers", ())):
        todo.append("pyproject.toml: maintainers, with name and email")
    urls = project.get("urls", {})
    todo += [f"pyproject.toml: {name} in [project.urls]" for name in URLS if not urls.get(name)]
    (version,) = re.findall(r'^__version__ = "(.*)"$', (root / "hybrid_layer/__init__.py").read_text(), re.MULTILINE)
    if not re.search(
        rf"^{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", (root / "CHANGELOG.rst").read_text(), re.MULTILINE
    ):
        todo.append(f"CHANGELOG.rst: {version} with its date, as (2027-12-31)")
    if tag is not None and tag != f"v{version}":
        todo.append(f"the tag is {tag}, and the version {version}")
    return todo


if __name__ == "__main__":
    if todo := missing(ROOT, *sys.argv[1:2]):
        sys.exit("Not ready for a release:\n" + "".join(f"  {each}\n" for each in todo))
