"""How Sphinx builds these pages: without a warning, without the network, and with every public name."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE / "_ext"))

import ohemloss

project = "ohemloss"
version = release = ohemloss.__version__
copyright = "the ohemloss developers, MIT licence"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "commands",
    "complete",
    "made",
    "mathml",
    "offline",
    "references",
]
exclude_patterns = ["_build", "_ext", "_made", "_static", "examples", "results"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", "weight|loss"),  # fields, which their classes describe as parameters
    ("py:obj", r"ohemloss\._.*"),  # what only who writes a backend looks up, in the source
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# A name in single backticks is a link if it is one of ours, and in italics if it is an argument.
default_role = "autolink"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say more
autosummary_generate = False
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "ohemloss"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "github-dark"  # in which names of modules do not look like links
