"""The documentation as a site: `make docs` builds it into build/docs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hybrid_layer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "hybrid_layer"
author = "the hybrid_layer authors"
project_copyright = author
version = release = hybrid_layer.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "links",
]
highlight_language = "none"  # a block says what it is in
nitpicky = True  # a link that leads nowhere is a warning, and `make docs` ends at a warning
exclude_patterns = ["_*"]

# Names in other projects. The files in _inventories list the few that these pages use, so that a build needs no
# network. On Read the Docs, and with INVENTORIES=online, Sphinx asks the projects first, and takes those files if it
# gets no answer.
ONLINE = "READTHEDOCS" in os.environ or os.environ.get("INVENTORIES") == "online"
SITES = {
    "python": "https://docs.python.org/3",
    "django": "https://docs.djangoproject.com/en/stable",
    "channels": "https://channels.readthedocs.io/en/stable",
}
intersphinx_mapping = {
    name: (site, (None, f"_inventories/{name}.inv") if ONLINE else f"_inventories/{name}.inv")
    for name, site in SITES.items()
}

autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
default_role = "py:obj"  # single backticks in docstrings
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # a name in single backticks is a link where it can be one: arguments are none
    ("py:class", r"(hybrid_layer\.configuration\.)?(P|T|Options|HostOption)"),
]

templates_path: list[str] = []
html_theme = "furo"
html_title = f"hybrid_layer {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
