"""Launch buttons for Binder and Colab: a Sphinx extension, named in `_config.yml`.

One setting decides, `repository.url` there. Empty, no page has such a button; set, each chapter
has both, and every page links to the repository and its issues.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from snt_core.common.errors import UserError

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
COLAB_BRANCH = "colab"  # has the chapters with a first cell that installs (see `colab`)
ADDRESS = re.compile(r"https://(github|gitlab)\.com/([\w.-]+)/([\w.-]+)")
LATE = 900  # after the theme has made its buttons


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx: options before the theme reads them, Colab after it made its buttons."""
    app.connect("config-inited", _set_options)
    app.connect("html-page-context", _add_colab, priority=LATE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def checked_address(url: str) -> str:
    """Return the repository's address without a slash or `.git` at its end; empty stays empty.

    Raises:
        UserError: it is no address that the buttons can be built from.
    """
    plain = url.strip().rstrip("/").removesuffix(".git")
    if plain and not ADDRESS.fullmatch(plain):
        raise UserError(
            f"repository.url in _config.yml is '{url}'; give an address such as "
            f"https://github.com/OWNER/NAME, or leave it empty"
        )
    return plain


def options(url: str) -> dict[str, Any]:
    """Return the theme's options that follow from the repository's address."""
    address = checked_address(url)
    if not address:
        return {"launch_buttons": {}, "use_repository_button": False, "use_issues_button": False}
    return {
        "repository_url": address,
        "launch_buttons": {"binderhub_url": BINDER, "notebook_interface": "jupyterlab"},
        "use_repository_button": True,
        "use_issues_button": True,
    }


def colab_address(url: str, page: str) -> str | None:
    """Return where Colab opens a chapter; None where it cannot (it reads GitHub alone)."""
    found = ADDRESS.fullmatch(checked_address(url))
    if found is None or found[1] != "github":
        return None
    return f"{COLAB}/github/{found[2]}/{found[3]}/blob/{COLAB_BRANCH}/{page}.ipynb"


def _set_options(app: Sphinx, config: Config) -> None:
    theme = config.html_theme_options
    theme.update(options(theme.get("repository_url", "")))


def _add_colab(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Put Colab beside Binder. The theme's own button would open a notebook that lacks snt_core."""
    address = colab_address(app.config.html_theme_options.get("repository_url", ""), page)
    groups = [b for b in context.get("header_buttons", ()) if b.get("label") == "launch-buttons"]
    for group in groups if address else ():
        group["buttons"].append(
            {
                "type": "link",
                "text": "Colab",
                "tooltip": "Launch on Colab",
                "icon": "_static/images/logo_colab.png",
                "url": address,
            }
        )
