# The commands of development. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLASK_APP := wsgi.py

# Tests start many processes, so compiled modules are kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run demo test test-all prove prove-core siege lint format docs bench screenshots clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runs ## set up what is missing and start the service on 127.0.0.1:8000
	@$(BIN)/flask setup
	@$(BIN)/flask db upgrade 2>/dev/null || $(BIN)/flask db upgrade
	@exec $(BIN)/gunicorn wsgi:app

# The demo has its own keys, database and spool, so it never touches those of the service.
demo: export SETTINGS_FILE := instance/demo.env
demo: export DATABASE_URL := sqlite:///instance/demo.db
demo: export SPOOL_DIR := instance/demo-spool
demo: $(VENV)/.runs ## start the service with a simulated OneSpan that sends callbacks
	@$(BIN)/flask setup >/dev/null 2>&1 || $(BIN)/flask setup
	@$(BIN)/flask db upgrade 2>/dev/null || $(BIN)/flask db upgrade
	@exec env PATH="$(CURDIR)/$(BIN):$$PATH" python deploy/foreground.py sh deploy/demo.sh

# Both print the CPU time they took, including PostgreSQL and Chromium.
test: $(VENV)/.tests ## test each behaviour once, in about three minutes
	@$(BIN)/python -m tests.support.cpu --limit 330 $(BIN)/pytest -n auto --dist worksteal

test-all: $(VENV)/.tests ## run all tests, on both databases and in a browser, in about twelve minutes
	@$(BIN)/python -m tests.support.cpu $(BIN)/pytest -n auto --dist worksteal --tier=all

prove: export SETTINGS_FILE := /dev/null
prove: $(VENV)/.tests ## test random schedules until you stop it, or for PROVE_SECONDS
	@$(BIN)/python -m tests.support.prove $(if $(PROVE_SECONDS),--seconds $(PROVE_SECONDS))

prove-core: $(VENV)/.tests ## test a million random histories on the core alone, or PROVE_HISTORIES
	@$(BIN)/python -m tests.support.prove_core --processes 2 $(if $(PROVE_HISTORIES),--histories $(PROVE_HISTORIES))

siege: export SETTINGS_FILE := /dev/null
siege: $(VENV)/.tests ## kill, freeze and cut a real installation for ten minutes, or SIEGE_SECONDS; as root
	@PATH="$$PATH:/usr/sbin" $(BIN)/python -m tests.siege --seconds $(or $(SIEGE_SECONDS),600) $(if $(SIEGE_SEED),--seed $(SIEGE_SEED))

lint: $(VENV)/.tests ## check style and types with ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.tests ## format and fix the code with ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: export SETTINGS_FILE := /dev/null
docs: $(VENV)/.tests ## write docs/settings.md and docs/commands.md from the code
	@$(BIN)/python -m docs.generate

bench: $(VENV)/.tests ## run the benchmarks, which print ratios measured side by side
	@$(BIN)/python -m benchmarks

screenshots: export SETTINGS_FILE := /dev/null
screenshots: $(VENV)/.tests ## take a screenshot of each page, into instance/screenshots/
	@$(BIN)/python -m tests.support.screenshots instance/screenshots

clean: ## delete the virtual environment; the data in instance/ stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@echo "Making $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required. Use, for example, make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements.txt ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.tests: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements-dev.txt ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.runs
