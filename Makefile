# make demo     a worklist with sample entries, and what to type next
# make test     all tests              make check    lint and types
# make cov      tests with coverage    make fuzz     the property tests, 2,000 examples of each: up to half an hour
# make bench    measurements           make requirements   each requirement and its tests
# The virtual environment is made when it is missing; PYTHON=python3.13 chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test check cov fuzz bench requirements venv clean

demo: $(VENV)/.demo
	@$(BIN)/mwl demo

test: $(VENV)/.test
	$(PYTEST)

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

cov: $(VENV)/.test
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

fuzz: $(VENV)/.test
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -m hypothesis --durations=10

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(BENCH_OPTIONS) suite

requirements: $(VENV)/.test
	$(BIN)/python -m tests.requirements

venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	@test "$$($(BIN)/python -V 2>/dev/null)" = "$$($(PYTHON) -V)" || \
	  { echo "making $(VENV) with $$($(PYTHON) -V)"; $(PYTHON) -m venv --clear $(VENV); }

$(VENV)/.demo: pyproject.toml | venv
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | venv
	@echo "installing into $(VENV), with what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.bench: pyproject.toml | venv
	@echo "installing into $(VENV), with what the measurements need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .ruff_cache
