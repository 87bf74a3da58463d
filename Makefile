# Needs python3 (3.11 or newer), make and gcc; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
FAST := tests/actors/runtime tests/docs tests/envs tests/topology tests/test_layers.py tests/test_house.py
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test test-fast test-all cov lint format bench wheel clean

run: .venv/installed
	$(BIN)/actorq run recipes/hierarchical.toml

# The tests start hundreds of interpreters; without bytecode each would compile actorq again.
test test-fast test-all cov: export PYTHONDONTWRITEBYTECODE :=

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What needs no training: the quick check while editing.
test-fast: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(FAST)

test-all: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

# Lines and branches that the tests reach, node processes included; htmlcov/index.html has them line by line.
cov: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-report=html

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/installed-bench
	$(BIN)/python -m tests.bench

wheel: .venv/installed
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv dist htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Each install goes on from the one before, so that `make -j` never runs two pips in one environment.
.venv/installed: pyproject.toml constraints.txt
	@echo "Installing actorq into .venv (torch among it: minutes, the first time)"
	@$(PYTHON) -m venv .venv
	@$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for tests and lint into .venv"
	@$(PIP) -e '.[dev]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	@echo "Installing what the benchmarks compare against into .venv"
	@$(PIP) -e '.[bench]'
	@touch $@
