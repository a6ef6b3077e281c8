"""The numbers of references in docstrings, as they are written there."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# numpydoc makes labels unique by a hash. It takes the hash away again, but not where MyST parsed the docstring.
_LABEL = re.compile(r"\[R[0-9a-f]{12}-(\d+)\]")


def _shorten(app: Sphinx, doctree: nodes.document) -> None:
    for text in list(doctree.findall(nodes.Text)):
        if _LABEL.fullmatch(text):
            text.parent.replace(text, nodes.Text(_LABEL.sub(r"[\1]", text)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Shorten the labels of each page that was read."""
    app.connect("doctree-read", _shorten, priority=900)  # after numpydoc
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
