"""The documentation as a site: `make site`, built offline by Sphinx from these Markdown pages."""  # noqa: INP001  (a script)

import re
from typing import Any

project = "Voicery lead dispatcher"
author = "the maintainers"
REPOSITORY = "https://github.com/voicery-dispatcher/voicery-dispatcher"

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["decisions/template.md"]
suppress_warnings = ["misc.highlighting_failure"]  # `…` in an example is meant
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
html_theme = "furo"
html_title = project
html_extra_path = ["llms.txt"]
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
mermaid_init_js = ""


def _links_out_of_here(_app: Any, _name: str, source: list[str]) -> None:  # noqa: ANN401 - Sphinx's own
    """Turn a link to a file of the repository outside of docs/ into one to where the repository is."""
    source[0] = re.sub(r"\]\((?:\.\./)+([^)#][^)]*)\)", rf"]({REPOSITORY}/blob/main/\1)", source[0])


def setup(app: Any) -> None:  # noqa: ANN401 - as above
    """Called by Sphinx."""
    app.connect("source-read", _links_out_of_here)
