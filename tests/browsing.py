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
    """Opens pages in one tab, the network blocked, and notes everything that goes wrong."""

    def __init__(self, browser, width: int, theme: str) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme
        )
        self.context.route("**/*", self._block)
        # another tab compiles every script anew, which takes longer than the page itself
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        self.tab.on("requestfailed", lambda gone: self.wrong.append(f"cannot load {gone.url}"))
        self.tab.on("console", self._listen)

    def _block(self, route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"asks for {route.request.url}")
            route.abort()

    def open(self, file: Path, query: str = ""):
        self.tab.goto(file.as_uri() + query, wait_until="load")
        # typesetting goes on after the page has loaded
        self.tab.evaluate("() => window.MathJax?.startup?.promise")
        return self.tab

    def leave(self, width: int) -> None:
        """Forget the page, and what went wrong with it; the next one is opened at `width`."""
        self.tab.goto("about:blank")
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.wrong.clear()

    def _listen(self, message) -> None:
        if message.type == "error":
            self.wrong.append(f"console says {message.text}")
