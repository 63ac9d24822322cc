"""What axe-core finds wrong with a page of the built book."""

from __future__ import annotations

from axe_playwright_python.base import AXE_SCRIPT

# Folds are open, so that what they hold is seen; movement would blur the contrast. That is slow: of
# long tables, references and their contents the first lines are looked at, of listings each colour.
OPENED = """() => {
  const keep = (nodes, count) => [...nodes].slice(count).forEach(node => node.remove());
  document.querySelectorAll('article details').forEach(fold => fold.open = true);
  document.querySelectorAll('article tbody').forEach(body => keep(body.rows, 3));
  for (const long of ['article dl.py', '.indextable li', '.page-toc li'])
    keep(document.querySelectorAll(long), 20);
  const words = [...document.querySelectorAll('article .highlight pre > span')];
  for (const colour of new Set(words.map(word => word.className)))
    keep(words.filter(word => word.className === colour), 3);
  const still = document.createElement('style');
  still.textContent = '* { animation: none !important; transition: none !important; }';
  document.head.append(still);
}"""
FOCUSABLE = 350  # ms after another width, when the theme has made focusable what scrolls then
# every rule, those that are off by default and best practices too; only AAA is not asked for
RULES = """() => axe.getRules().filter(r => !r.tags.includes('wcag2aaa')).map(r => r.ruleId)"""
RUN = """async rules => {
  const found = await axe.run(document, {
    runOnly: {type: 'rule', values: rules}, resultTypes: ['violations'],
  });
  return found.violations.flatMap(broken => broken.nodes.map(
    node => `${broken.id}: ${node.html.slice(0, 160)} (${node.failureSummary})`));
}"""
THEME = "theme => { document.documentElement.dataset.theme = theme; }"


def violations(page, width: int, theme: str) -> list[str]:
    """Return what is wrong with a page at a width, in the light or in the dark.

    Rows of tables and folds are not as they were afterwards.
    """
    page.evaluate(OPENED)
    if page.viewport_size["width"] != width:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(FOCUSABLE)
    page.evaluate(AXE_SCRIPT)
    page.evaluate(THEME, theme)
    return page.evaluate(RUN, page.evaluate(RULES))
