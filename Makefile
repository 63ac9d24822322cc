# Two commands do everything: `make book` and `make test`.
# PYTHON=/path/to/python chooses another interpreter, WORKERS=n the number of parallel processes.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: book smoke pdf screenshots test lint browser bench torture lab hooks clean

# Python keeps what it compiles: every chapter and every run is a process of its own, and to compile
# torch anew in each takes as long as to load it.
unexport PYTHONDONTWRITEBYTECODE

# The first that runs and is 3.11-3.13. `python3` leads: it is the activated environment,
# whose torch is kept (an installed pyenv shim may exist and yet not run, so each is tried).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))' 2>/dev/null \
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

# Live, in a store of its own that is made anew: what an older state of the code left does not
# count, and neither data/ nor a store that SNT_STORE names is touched.
smoke: .venv/.installed
	rm -rf _build/smoke/store
	SNT_STORE=$(CURDIR)/_build/smoke/store $(BOOK) --profile smoke

# The built book as one PDF, which its front page then links to.
pdf: book browser
	$(BIN)/snt pdf

# The pictures in README.md.
screenshots: book browser
	$(BIN)/python -m snt_core.book.screenshots

# Everything that continuous integration runs; what fails fast comes first, the book last. A process
# for each core, and one thread in each: those without a core of their own hold up one another.
test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist worksteal

# Style, types, and the floors: imports go down only (the contract is in pyproject.toml).
lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" actionlint -config-file .github/actionlint.yaml .github/workflows/*.yml
	$(BIN)/hadolint Dockerfile

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

# Faults injected often, as a table of what was lost, wrong or blocked (half an hour); SHARE=0.1 of the
# usual tries, FAULT="flips kills" for some of the parts. The tests inject each a few times.
SHARE ?= 1
torture: .venv/.installed-dev
	$(BIN)/python -m tests.faults $(SHARE) $(FAULT)

# Speed against peers; ONLY=hessian (or training, steps, compression, tokens, book, scaling, card) for one area.
bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks $(ONLY)

# JupyterLab on the chapters; LAB="--port 9999" hands it more options. Root and containers need two
# of their own: permission to run as root, and an address that is seen from outside.
lab: hooks
	@if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	if [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then outside="--ip=0.0.0.0 --no-browser"; fi; \
	set -x; $(BIN)/jupyter lab $$root $$outside $(LAB) book

# What git stores of a notebook: no outputs, no counts, nothing that names this machine. So a chapter
# that was executed and saved differs by what was edited alone. Without git there is no need of it.
STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.language_info metadata.papermill cell.metadata.papermill cell.metadata.editable cell.metadata.slideshow"
hooks: .venv/.installed-lab
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
		git config filter.nbstripout.clean '$(STRIP)' && git config filter.nbstripout.smudge cat && \
		$(BIN)/pre-commit install >/dev/null; \
	else echo "No git repository that this user may use, so no hooks are installed"; fi

# Publishing: what the workflows in .github/workflows run, and what can be run by hand as well.
.PHONY: lock pythons image records store restore propose crate site colab

# A checksum for every package in requirements.lock, and for the CUDA packages that it leaves out.
lock: .venv/.installed-dev
	$(BIN)/uv pip compile pyproject.toml --all-extras --constraints requirements.lock --universal \
		--python-version 3.11.5 --generate-hashes --no-annotate --no-emit-index-url --quiet \
		--custom-compile-command "make lock" --output-file requirements-hashed.lock

# The locked packages against a database of known vulnerabilities. The tool that asks has an
# environment of its own, so that nothing of it is among what it looks at.
.PHONY: vulnerabilities
PIP_AUDIT := _build/pip-audit
vulnerabilities:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none runs from PATH" >&2; exit 2; }
	@$(PYTHON) -m venv $(PIP_AUDIT) && $(PIP_AUDIT)/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1 2>$(PIP_AUDIT)/log \
		|| { echo "pip-audit cannot be installed here ($(PIP_AUDIT)/log says why), so nothing was looked up."; exit; }; \
	$(PIP_AUDIT)/bin/python -m tests.vulnerabilities

# The recipe for Slurm on a cluster of this machine, which Debian's slurm-wlm makes; asks for root.
.PHONY: slurm
slurm: .venv/.installed-dev
	@command -v slurmctld munged >/dev/null || { echo "First: apt-get install slurm-wlm munge" >&2; exit 2; }
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m tests.slurm

# Each Python that is here: the tree copied, installed as a reader would, one chapter executed.
VERSIONS ?= 3.11 3.12 3.13
pythons:
	@tried=; for version in $(VERSIONS); do \
		for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
			$$python -c '' 2>/dev/null && break; python=; done; \
		test -n "$$python" || { echo "Python $$version: none here"; continue; }; \
		tried=yes; place=_build/pythons/$$version; rm -rf $$place; mkdir -p $$place; \
		git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t $$place && \
		make --no-print-directory -C $$place .venv/.installed PYTHON="$$(command -v "$$python")" && \
		(cd $$place && .venv/bin/pip check && SNT_STORE=store .venv/bin/snt chapter table4 -p profile=smoke) && \
		echo "Python $$version: installed and a chapter executed ($$($$python --version))" || exit 1; \
	done; test -n "$$tried" || { echo "none of Python $(VERSIONS) is here" >&2; exit 2; }

# DEVICE=cpu, or a version of CUDA such as cu130.
DEVICE ?= cpu
image:
	docker build --build-arg DEVICE=$(DEVICE) --tag snt-book:$(DEVICE) .
	docker run --rm snt-book:$(DEVICE) snt chapter table4 -p profile=smoke

# Runs what is missing, profile by profile, for MINUTES at most; what is under way then goes on
# from its last checkpoint the next time.
PROFILES ?= cifar paper
MINUTES ?= 300
records: .venv/.installed
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); for profile in $(PROFILES); do \
		left=$$(( end - $$(date +%s) )); (( left > 0 )) || { echo "No time is left for $$profile."; break; }; \
		timeout $$left $(BIN)/snt run --profile $$profile --workers $(WORKERS) && continue; \
		code=$$?; (( code == 124 )) || exit $$code; \
		echo "The $(MINUTES) minutes are over; $$profile goes on the next time."; break; \
	done

# The store as one file with its checksums, and back. What is there already stays as it is.
STORE ?= $(or $(SNT_STORE),data)
FROM ?= _build/snt-store.tar
store:
	@mkdir -p _build $(STORE)/records $(STORE)/weights $(STORE)/verified
	set -o pipefail; cd $(STORE) && find records weights verified -type f ! -path '*/smoke/*' ! -name '.*' -print0 \
		| sort -z | xargs -0 -r sha256sum > SHA256SUMS
	tar -cf _build/snt-store.tar --exclude=smoke --exclude='.*' -C $(STORE) SHA256SUMS records weights verified
	@rm $(STORE)/SHA256SUMS

restore:
	@test -f "$(FROM)" || { echo "there is no file '$(FROM)'; name a stored one: make restore FROM=path" >&2; exit 2; }
	@set -o pipefail; mkdir -p $(STORE) && place=$$(mktemp -d) && trap 'rm -rf $$place' EXIT && \
	tar -xf $(FROM) -C $$place && (cd $$place && sha256sum --check --quiet SHA256SUMS) && \
	(cd $$place && find records weights verified -type f ! -path '*/smoke/*' -print0) \
		| tar -c -C $$place --null -T - | tar -x --skip-old-files -C $(STORE)

# New records as one commit on a branch of their own, for a change that somebody looks at.
BRANCH ?= records/$(shell date -u +%Y-%m-%d)
propose:
	@git switch --quiet --create $(BRANCH) && git add data/records data/verified && \
	if git diff --cached --quiet; then echo "No new records."; else \
		git commit --quiet --message "Records: $$(git diff --cached --name-only | wc -l) new from the GPU runner"; fi

# The built book, its notebooks and records as one file, unpacked and checked as a reader would.
crate: .venv/.installed
	$(BIN)/snt export
	@place=$$(mktemp -d) && trap 'rm -rf $$place' EXIT && \
	$(BIN)/python -m zipfile -e _build/snt-book.zip $$place && $(BIN)/python -I $$place/snt-book/verify.py

# The site with every edition in EDITIONS (edition-2026-11-26.zip and so on, as `make crate` makes them).
EDITIONS ?= _build/editions
site: .venv/.installed
	$(BIN)/python -m snt_core.book.editions $(EDITIONS) _build/site

# The chapters as Colab needs them; for the branch `colab` that the launch button opens.
colab: .venv/.installed
	$(BIN)/python -m snt_core.book.colab _build/colab

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
	@$(PIP) -e ".[book]"
	@# the kernel that chapters run in is this environment's, even where another one is installed
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	@touch $@

.venv/.installed-lab: .venv/.installed
	@echo "Installing JupyterLab and what cleans notebooks"
	@$(PIP) -e ".[book,lab]"
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing what the tests need"
	@$(PIP) -e ".[book,export,dev]"
	@touch $@
