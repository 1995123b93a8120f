# Everything runs in .venv, which the first target that needs it makes. No sudo, no service: tests start their own.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help demo test check format bench soak clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("capguard needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## watch capguard hold a few hundred users to their caps, on a slice of real traffic
	@$(BIN)/capguard demo

test: $(READY) ## run the whole test suite
	$(BIN)/python -m pytest -q -n 2

check: $(READY) ## lint, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## measure capguard next to bare transactions and to LiteLLM, in one run
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.estimates

soak: $(READY) ## the crash and race tests many times over, every mutant, the contract on both servers in both modes
	CAPGUARD_SOAK=10 $(BIN)/python -m pytest -q -m soak --timeout 3600
	CAPGUARD_SOAK=1 $(BIN)/python -m pytest -q -n 2 tests/backends/test_redis.py tests/backends/test_redis_mutants.py tests/backends/test_redis_rebuild_rows.py

clean: ## throw the virtual environment and all caches away
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
