"""Speed against peers, measured in turn: `make bench`, or one area, `make bench ONLY=steps`.

Each area is a module with a function `rows(log)`; its rows go to `results/AREA.json` and to the
book's chapter on performance. Nothing here is a test.
"""
