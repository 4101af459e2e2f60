# One command per chore, the same for people and CI.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
AIRFLOW := .venv-airflow
PORT ?= 3000

.PHONY: setup run test lint bench

run: $(VENV)/.installed  ## from songs to live lyrics on http://127.0.0.1:3000/
	@test -f workspace/params.yaml || $(BIN)/lyrics-lm init workspace
	@exec $(BIN)/lyrics-lm -C workspace up --port $(PORT)

setup: $(VENV)/.installed $(VENV)/.installed-dev $(AIRFLOW)/.installed  ## the virtual environment with all that development needs

test: lint  ## lint, then every test
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: setup  ## every claim against its baseline
	$(BIN)/pip install --quiet --editable '.[bench]' --constraint constraints.txt
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

$(AIRFLOW)/.installed: src/lyrics_lm/orchestration/airflow.txt  ## Airflow cannot share an environment; tests run it
	$(PYTHON) -m venv --clear $(AIRFLOW)
	$(AIRFLOW)/bin/pip install --quiet --no-deps --requirement $<
	touch $@
