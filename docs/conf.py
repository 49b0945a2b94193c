"""Settings of the site. `make docs` builds it into build/site; open build/site/index.html."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "docs" / "_ext"), str(ROOT / "bench")]

from unlabeled import __version__  # noqa: E402

project = "unlabeled"
copyright = "the contributors of unlabeled"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",
    "unlabeled_site",
]
exclude_patterns = ["_ext", "_static", "lectures/ipynb"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "text"
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what is expected, with shapes
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "unlabeled"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "results": [], "changelog": []}
copybutton_exclude = ".linenos, .gp, .go"
