"""A reader of the built book: a browser that has no network and notes what goes wrong."""

from __future__ import annotations

from pathlib import Path

# what reaches out of the screen to the right, without a box of its own that scrolls
OVERFLOW = """() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  return [...document.querySelectorAll('body *')]
    .filter(node => node.getBoundingClientRect().right > root.clientWidth + 1)
    .map(node => `${node.tagName}.${node.className}`).concat(`page ${root.scrollWidth} px`);
}"""


class Reader:
    """Opens pages with the network blocked and notes everything that goes wrong."""

    def __init__(self, browser, width: int, theme: str) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme
        )
        self.context.route("**/*", self._block)

    def _block(self, route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"asks for {route.request.url}")
            route.abort()

    def open(self, file: Path, query: str = ""):
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        page.on("requestfailed", lambda request: self.wrong.append(f"cannot load {request.url}"))
        page.on("console", self._listen)
        page.goto(file.as_uri() + query, wait_until="load")
        # typesetting goes on after the page has loaded
        page.evaluate("() => window.MathJax?.startup?.promise")
        return page

    def _listen(self, message) -> None:
        if message.type == "error":
            self.wrong.append(f"console says {message.text}")
