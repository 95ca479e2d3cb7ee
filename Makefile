# Everything a fresh checkout needs is made here: Python 3.11 or later with pip and venv, and make, are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench mutants chaos lock clean

.venv: .venv/.stamp

.venv/.stamp: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.stamp
	$(BIN)/chartpost demo

# Processes are killed and clocks run in these tests: what fails beside others is tried once more alone. A fault fails again.
test: lint
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder || \
		$(BIN)/pytest --last-failed --last-failed-no-failures none

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: .venv/.stamp
	$(BIN)/python -m tests.benchmarks

# One deliberate fault for each promise; fails unless a test notices each.
mutants: .venv/.stamp
	$(BIN)/python -m tests.mutants

# Documents flow while everything fails in turn; docs/chaos.md has the table. For options: make chaos CHAOS="--seed 7".
chaos: .venv/.stamp
	$(BIN)/python -m tests.chaos.campaign $(CHAOS)

# The lock files hold every platform's hashes and no index address.
lock: .venv/.stamp
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --upgrade pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --upgrade --extra test --group build pyproject.toml \
		--output-file requirements-dev.lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
