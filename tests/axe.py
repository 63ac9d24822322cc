"""What axe-core finds wrong with a page of the built book."""

from __future__ import annotations

from axe_playwright_python.base import AXE_SCRIPT

# Folds are open, so that what they hold is seen; movement would blur the contrast. Of long tables,
# listings and references the first lines are looked at: contrast is slow, the rest is made alike.
# The theme makes what now scrolls focusable after 300 ms.
OPENED = """async () => {
  document.querySelectorAll('article details').forEach(fold => fold.open = true);
  document.querySelectorAll('article tbody').forEach(
    body => [...body.rows].slice(5).forEach(row => row.remove()));
  [...document.querySelectorAll('article dl.py, .indextable li')].slice(30).forEach(
    entry => entry.remove());
  document.querySelectorAll('article .highlight pre').forEach(
    code => [...code.children].slice(60).forEach(word => word.remove()));
  const still = document.createElement('style');
  still.textContent = '* { animation: none !important; transition: none !important; }';
  document.head.append(still);
  await new Promise(done => setTimeout(done, 350));
}"""
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


def violations(page) -> list[str]:
    """Return what is wrong in the light, and of colours in the dark, which changes nothing else.

    Rows of tables and folds are not as they were afterwards.
    """
    page.evaluate(OPENED)
    page.evaluate(AXE_SCRIPT)
    page.evaluate(THEME, "light")
    wrong = page.evaluate(RUN, page.evaluate(RULES))
    page.evaluate(THEME, "dark")
    return wrong + page.evaluate(RUN, ["color-contrast"])
