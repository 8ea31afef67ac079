PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: test lint

test: $(INSTALLED)
	$(VENV)/bin/ruff check ftlab tests
	$(VENV)/bin/ruff format --check ftlab tests
	$(VENV)/bin/python -m pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check --fix ftlab tests
	$(VENV)/bin/ruff format ftlab tests

$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -e .[dev]
	touch $@
