# make demo: the whole experiment on the built-in tiny model. make test: everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

.PHONY: demo test lint types contracts docs clean

demo: $(INSTALLED)
	$(BIN)/moe demo

test: $(TESTABLE) lint types contracts
	$(BIN)/python -m pytest -n 2

lint: $(TESTABLE)
	$(BIN)/ruff check moe_cli tests
	$(BIN)/ruff format --check moe_cli tests

types: $(TESTABLE)
	$(BIN)/mypy

contracts: $(TESTABLE)
	$(BIN)/lint-imports

docs: $(TESTABLE)
	$(BIN)/python -m moe_cli.cli.reference docs
	$(BIN)/python -m tests.experts.families_page

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(TESTABLE): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(INSTALLED)
