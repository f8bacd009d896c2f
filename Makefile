# Everything here sets itself up: a fresh checkout with Python 3.11 or newer and make is enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS ?= auto
SECONDS ?= 3600
SEED    ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check slow live fuzz js defects bench clean

help: ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make a virtual environment in .venv and install everything into it

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("nightshoot needs Python 3.11 or newer; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(READY) ## one whole run on the built-in emulator: no key, no network, nothing paid
	@$(BIN)/nightshoot demo

test: $(READY) ## all tests but the slow ones
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

slow: $(READY) ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow --session-timeout=86400

live: $(READY) ## what of the contract is free, against Google: NIGHTSHOOT_LIVE_KEY, NIGHTSHOOT_LIVE_PROJECT and _BUCKET
	@$(BIN)/python -m pytest -rs tests/contracts/test_live.py

fuzz: $(READY) ## odd result lines by chance, against a plain parser; an hour, or: make fuzz SECONDS=60
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

check: $(READY) ## lint, formatting, types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

js: ## fetch Google's JavaScript SDK into .cache/js, for the one test that drives the emulator with it
	@mkdir -p .cache/js
	@npm install --prefix .cache/js --ignore-scripts --no-audit --no-fund --silent @google/genai@2

defects: $(READY) ## plant every known one-line defect in a copy; fail if the tests miss one
	@$(BIN)/python -m tests.defects

bench: $(READY) ## measure, and print what was measured on what
	@$(BIN)/python -m benchmarks

clean: ## remove what make made: the environment, caches and demo runs
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
