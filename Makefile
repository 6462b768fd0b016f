# Installs, demonstrates and tests the project. `make` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FITS := 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'

export RECSYS_HOME ?= $(CURDIR)
export DAGSTER_HOME ?= $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := yes
export MLFLOW_DISABLE_TELEMETRY := true
# Some images set it. Then every process would compile all that it imports again: 8 s instead of 2 for the definitions.
unexport PYTHONDONTWRITEBYTECODE
export SERVE_PORT ?= 8000
export DAGSTER_PORT ?= 3000
export MLFLOW_PORT ?= 5000

.PHONY: help setup demo test test-engines ui docs lint format

help:
	@echo "make demo    install, generate data, build every asset of the latest bizdate, show the results"
	@echo "make test    linter, types and tests, as in CI (PYTEST_ARGS='-k splits' for some of the tests)"
	@echo "make test-engines    the comparisons of Feast and the like with the lake on many rows, minutes each"
	@echo "make ui      recommendations on 127.0.0.1:$(SERVE_PORT), Dagster on :$(DAGSTER_PORT) and MLflow on :$(MLFLOW_PORT), until Ctrl-C"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make setup   only install the environment, in $(VENV)"
	@echo "make lint    linter and types"
	@echo "make format  format the code"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then found=; \
	  for python in $(PYTHON) python3.11 python3 python; do \
	    if "$$python" -c $(FITS) 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Python 3.11 was not found: install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  "$$found" -m venv $(VENV); \
	fi
	@$(BIN)/python -c $(FITS) || { echo "$(VENV) does not have Python 3.11: remove it and run make again" >&2; exit 1; }
	@echo "Installing into $(VENV): about two minutes"
	@# pip would compile every file, which takes 80 seconds; only what the first commands import is compiled here.
	@# Python 3.11 brings pip 23, which reads the indexes of the 230 packages in 39 seconds; the pinned one takes 14.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile pip==26.3
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@RECSYS_PROFILE=sample $(BIN)/python -c 'import recsys_assets.step_imports, rich'
	@chmod 700 data # git does not store a folder's mode, and the data is private to this user
	@touch $@

demo: setup
	@$(BIN)/python -m recsys_assets.demo

test: lint
	# One thread per worker: with more, workers on the same cores wait for one another. One worker more than cores,
	# because half of the time is waiting for servers.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)

test-engines: setup
	@$(BIN)/python -m recsys_assets.cli triton install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m engines $(PYTEST_ARGS)

ui: setup
	@$(BIN)/python -m recsys_assets.ui

docs: setup
	@$(BIN)/sphinx-build --fail-on-warning --quiet docs site
	@echo "Open site/index.html"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
