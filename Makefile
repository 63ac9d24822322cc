# Two commands do everything: `make book` and `make test`.
# PYTHON=/path/to/python chooses another interpreter, WORKERS=n the number of parallel processes.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: book smoke test lint browser bench lab clean

# The first that runs and is 3.11-3.13. `python3` leads: it is the activated environment,
# whose torch is kept (an installed pyenv shim may exist and yet not run, so each is tried).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { command -v $$p; break; }; done)

BIN := .venv/bin
# without compiling: Python compiles what is imported when it is, which is a tenth of what pip would
PIP := $(BIN)/pip install -q --no-compile --disable-pip-version-check -c .venv/constraints.txt
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
BOOK := $(BIN)/snt book --workers $(WORKERS)

# Version of the torch that $(PYTHON) itself offers (conda, a CUDA build), if it is recent enough
# and visible from a new environment; then torch and torchvision are not installed again.
define OWN_TORCH
import importlib.metadata as m, sys
try:
    torch = m.version("torch")
    recent = tuple(map(int, torch.split(".")[:2])) >= (2, 6)
    print(torch if recent and sys.prefix == sys.base_prefix else "")
except m.PackageNotFoundError:
    print("")
endef
export OWN_TORCH

book: .venv/.installed
	$(BOOK)

# Live, so the records that an older state of the code left do not count.
smoke: .venv/.installed
	rm -rf data/records/smoke
	$(BOOK) --profile smoke

# Everything that continuous integration runs; what fails fast comes first.
test: lint browser
	$(BIN)/pytest -q -n $(WORKERS) -m "not book"
	$(BIN)/pytest -q -n $(WORKERS) --dist loadgroup -m book

# Style, types, and the floors: imports go down only (the contract is in pyproject.toml).
lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: .venv/.installed-dev
	@find_browser() { for b in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$b && return; done; ls -d $${PLAYWRIGHT_BROWSERS_PATH:-$$HOME/.cache/ms-playwright}/chromium* 2>/dev/null; }; \
	find_browser >/dev/null && exit; \
	echo "No Chromium yet: installing one for the tests of the built book"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
			>/dev/null 2>&1 || true; fi; \
	find_browser >/dev/null || $(BIN)/playwright install chromium || true; \
	find_browser >/dev/null || { echo "make test needs a Chromium: none on PATH, apt-get could not install one (root is needed), and playwright could not download its own." >&2; exit 1; }

# Speed against peers; ONLY=hessian (or training, steps, compression, tokens, book, card) for one area.
bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks $(ONLY)

lab: .venv/.installed
	$(PIP) -e ".[lab]"
	$(BIN)/jupyter lab book

# What was built goes; .venv and data/ (records, weights, data sets) stay.
clean:
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis

.venv/.installed: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none runs from PATH; name one: make book PYTHON=/path/to/python3.12" >&2; exit 2; }
	@own=$$($(PYTHON) -c "$$OWN_TORCH") && \
	echo "Installing into .venv with $(PYTHON)$${own:+, keeping its torch $$own} (a few minutes, once)" && \
	$(PYTHON) -m venv $${own:+--system-site-packages} .venv && \
	if [ -n "$$own" ]; then { sed -E '/^torch(vision)?==/d' requirements.lock; echo "torch==$$own"; }; \
	else cat requirements.lock; fi > .venv/constraints.txt
	@$(PIP) -e .
	@# the kernel that chapters run in is this environment's, even where another one is installed
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing what the tests need"
	@$(PIP) -e ".[dev]"
	@touch $@
