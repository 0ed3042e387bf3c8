"""The site: python -m sphinx -W -b html docs docs/_build/html"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

import fastact  # noqa: E402

generate.write(HERE / "_generated")

project = "fastact"
author = "The fastact developers"
copyright = author
version = release = fastact.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
default_role = "py:obj"
add_module_names = False
numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "alabaster"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "description": "Activation functions as NumPy ufuncs",
    "fixed_sidebar": True,
    "page_width": "900px",  # up to here the navigation stands above the page; site.css makes wider ones wider
    "body_max_width": "none",  # the theme's 800px are narrower than the code and the tables
    "sidebar_width": "230px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_show_sourcelink = False
