# How the project is installed, shown and tested. `make` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FITS := 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'

export RECSYS_HOME ?= $(CURDIR)
export DAGSTER_HOME ?= $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := yes
export MLFLOW_DISABLE_TELEMETRY := true
export DAGSTER_PORT ?= 3000
export MLFLOW_PORT ?= 5000

.PHONY: help setup demo test ui lint format

help:
	@echo "make demo    install, generate data, build every asset of the latest bizdate, say what came out"
	@echo "make test    linter, types and tests, as in CI (PYTEST_ARGS='-k splits' for a part)"
	@echo "make ui      Dagster on 127.0.0.1:$(DAGSTER_PORT) and MLflow on 127.0.0.1:$(MLFLOW_PORT), until Ctrl-C"
	@echo "make setup   only the environment, in $(VENV)"
	@echo "make lint    linter and types"
	@echo "make format  lay the code out"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then found=; \
	  for python in $(PYTHON) python3.11 python3 python; do \
	    if "$$python" -c $(FITS) 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Python 3.11 is not to be found: install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  "$$found" -m venv $(VENV); \
	fi
	@$(BIN)/python -c $(FITS) || { echo "$(VENV) is not of Python 3.11: remove it and run make again" >&2; exit 1; }
	@echo "Installing into $(VENV): about a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@chmod 700 data # git keeps no mode of a folder, and what is written here is for this user alone
	@touch $@

demo: setup
	@$(BIN)/python -m recsys_assets.demo

test: lint
	# One thread a worker: two workers with two threads each wait for one another, which doubles the time on two cores.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

ui: setup
	@$(BIN)/python -m recsys_assets.ui

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
