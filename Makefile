# Every target does its own set-up: the stamps in .venv say what is installed already.

PYTHON ?= python3
JOBS ?= 2
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := effcomp benchmarks docs examples tests

.PHONY: help test demo lint format types contracts check-tests clean

help:
	@echo "make test    lint, types, contracts and tests, in a fresh .venv when there is none"
	@echo "make demo    compile the small trained model and draw with it (demo-out/)"
	@echo "make lint    ruff, pyright and the import contracts only"
	@echo "make format  let ruff rewrite the sources"
	@echo "make clean   remove .venv and everything generated"

# torch goes in first and by itself, so that nothing else can choose its build.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --constraint constraints.txt "$(TORCH)"
	@touch $@

$(VENV)/.models: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable ".[models]"
	@touch $@

$(VENV)/.dev: $(VENV)/.models
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev,iree,models]"
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(MAKE) --no-print-directory types contracts

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

contracts: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

check-tests: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS)

test: lint
	$(MAKE) --no-print-directory check-tests

demo: $(VENV)/.models
	$(BIN)/python examples/demo.py --out demo-out

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
