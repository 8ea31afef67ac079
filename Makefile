PYTHON ?= python3
VENV := .venv
APP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: app test lint

app: $(APP)
	$(VENV)/bin/python app.py

test: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest

lint: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(APP): pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -e .
	touch $@

$(DEV): $(APP)
	$(VENV)/bin/python -m pip install -q -e .[dev]
	touch $@
