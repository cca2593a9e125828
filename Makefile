# Everything runs in .venv, which is made on first use and again when the pins change.
# `make demo` shows it working, `make test` runs the tests, `make check` also runs the linters.

.PHONY: help setup demo test lint check clean

SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/installed

# Tests start hundreds of interpreters: with bytecode kept, each starts in half the time.
unexport PYTHONDONTWRITEBYTECODE

help:
	@sed -n 's/^# `/`/p' Makefile

setup: $(STAMP)

# The pins are the whole environment: nothing is resolved, and once installed no target below
# needs a network. The build tool is one of the pins, hence no build isolation.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for python in python3.13 python3.12 python3.11 python3; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "tilec needs Python 3.11 or newer: no python3.13, python3.12, python3.11 or python3 of that age is on PATH" >&2; \
	  exit 1; \
	fi; \
	if ! [ -x $(BIN)/pip ]; then "$$python" -m venv .venv; fi
	$(BIN)/python -m pip install --quiet --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/minilm.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

lint: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/pyright
	$(BIN)/lint-imports

check: lint test

clean:
	rm -rf build dist out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
