# Every target builds what it needs: the virtual environment from constraints.txt, and on Debian as root the real servers.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
BENCH ?=
# Test files are shared out to so many processes, each with servers of its own. Tests wait for processes a good part of their
# time, so there are more than cores.
WORKERS ?= 4

# Some images set it; but the tests start our programs hundreds of times, and each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-check test soak check bench sandbox servers screenshots constraints clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Sandbox, Prefect and a partner with 40 files, on your machine, until Ctrl-C
	@$(BIN)/python -m tests.demo

demo-check: $(READY) ## The same unattended: exits 0 only if every file is where it must be, bytes compared
	@$(BIN)/python -m tests.demo --check

test: $(READY) servers ## Everything that fits in 25 minutes on two cores; what CI runs
	$(PYTEST) -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(READY) servers ## The long campaigns: files of 2 GiB, 100 kills over releases, 500 releases that wait, 20,000 documents in a folder, the rarer faults
	$(PYTEST) -m soak --timeout=3600 $(ARGS)

check: $(READY) ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) ## Measure against other tools; BENCH=sftp-list runs one, BENCH="sftp-list --scale 0.01" rehearses it
	@tests/servers/install.sh bench
	@$(BIN)/python -m tests.bench $(BENCH)

sandbox: $(READY) ## Stand-ins for the partner's server and the repository, until Ctrl-C
	@$(BIN)/python -m tests.sandbox serve all

screenshots: $(READY) servers ## Take the pictures of the documentation again
	@$(BIN)/python -m tests.demo --screenshots docs/images

servers: $(READY)
	@tests/servers/install.sh

constraints: ## Resolve constraints.txt anew (then run make test)
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet -e . --group dev && $(BIN)/pip freeze --exclude-editable --exclude countersign > constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get -qq update && apt-get -qq install -y python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "python3-venv is missing: ask root for 'apt-get install python3-venv'"; exit 1; fi; }
	@echo "Installing into $(VENV), about a minute..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	@touch $@

clean: ## Remove the environment and all local state
	rm -rf $(VENV) .venvs .servers .countersign .pytest_cache .mypy_cache .ruff_cache
