"""The site of the documentation: `make docs` builds it. Nothing on it comes from another site."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))  # for `reference`
import reference

project = "recsys_assets"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # pages link to one another's headings
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows no CSV; the page is tested by that name
html_theme = "furo"
html_title = project
html_show_copyright = html_show_sphinx = html_copy_source = False


def setup(app: Sphinx) -> None:
    """Write the reference pages before Sphinx reads the folder."""
    app.connect("config-inited", lambda *_: reference.write(Path(__file__).parent / "reference"))
