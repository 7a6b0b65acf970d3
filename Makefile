# Everything a developer needs; `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLASK_APP := wsgi.py

.PHONY: help run demo test test-all prove lint format bench screenshots clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runs ## set up what is missing and start the service on 127.0.0.1:8000
	@$(BIN)/flask setup
	@$(BIN)/flask db upgrade 2>/dev/null || $(BIN)/flask db upgrade
	@exec $(BIN)/gunicorn wsgi:app

# All of its own: what comes for the service finds other keys, another database and another spool.
demo: export SETTINGS_FILE := instance/demo.env
demo: export DATABASE_URL := sqlite:///instance/demo.db
demo: export SPOOL_DIR := instance/demo-spool
demo: $(VENV)/.runs ## the service and a simulated OneSpan that sends it callbacks
	@$(BIN)/flask setup >/dev/null
	@$(BIN)/flask db upgrade 2>/dev/null || $(BIN)/flask db upgrade
	@PATH="$(CURDIR)/$(BIN):$$PATH" python deploy/foreground.py sh deploy/demo.sh

# Both say how much computing they took, PostgreSQL and Chromium included.
test: $(VENV)/.tests ## every behaviour once, in about three minutes
	@$(BIN)/python -m tests.support.cpu --limit 330 $(BIN)/pytest -n auto --dist worksteal

test-all: $(VENV)/.tests ## all there is, on SQLite and PostgreSQL and in a browser, in about twelve
	@$(BIN)/python -m tests.support.cpu $(BIN)/pytest -n auto --dist worksteal --tier=all

prove: export SETTINGS_FILE := /dev/null
prove: $(VENV)/.tests ## random schedules against the reconciler until you stop it, or for PROVE_SECONDS
	@$(BIN)/python -m tests.support.prove $(if $(PROVE_SECONDS),--seconds $(PROVE_SECONDS))

lint: $(VENV)/.tests ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.tests ## let ruff write it well
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.tests ## the benchmarks, as ratios measured side by side
	@$(BIN)/python -m benchmarks

screenshots: export SETTINGS_FILE := /dev/null
screenshots: $(VENV)/.tests ## pictures of every page, into instance/screenshots/
	@$(BIN)/python -m tests.support.screenshots instance/screenshots

clean: ## forget the virtual environment; data in instance/ stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@echo "Making $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements.txt ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.tests: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements-dev.txt ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.runs
