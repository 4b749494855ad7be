# Every target does its own set-up; all of it stays inside the checkout (.venv, .data).
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests wait for processes most of the time.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev up test test-quick test-terraform ecr-coverage demo check format bench soak docs lock clean

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pullthrough needs Python 3.11 or newer (python3 is $$(python3 --version 2>&1))"; exit 1; }
	@python3 -m venv $(VENV) || { echo "could not make a virtual environment; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.setup: requirements/run.txt pyproject.toml | $(BIN)/python
	@$(PIP) install --require-hashes --no-deps -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.setup-dev: requirements/dev.txt $(VENV)/.setup
	@$(PIP) install --no-compile --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.setup ## Make .venv and install pullthrough into it

setup-dev: $(VENV)/.setup-dev ## The same, with what the tests and checks need

up: setup ## Start the cache on 127.0.0.1:5000, data in .data
	@exec $(BIN)/pullthrough serve --data .data

test-quick: setup-dev ## Run the unit and contract tests alone, on fewer examples: no port is opened
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --hypothesis-profile quick tests/unit tests/contracts --ignore tests/contracts/aws $(PYTEST_ARGS)

test: setup-dev ## Run every test that this machine allows (JOBS=N files at once)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-terraform: setup-dev ## Terraform's own AWS provider against the engine (TERRAFORM_PLUGINS=FOLDER for a provider mirror)
	@$(BIN)/python -m pytest tests/terraform $(PYTEST_ARGS)

ecr-coverage: setup-dev ## Write docs/ecr-coverage.md from what the engine answers
	@WRITE_ECR_COVERAGE=1 $(BIN)/python -m pytest -q tests/integration/test_ecr_coverage.py

demo: setup ## Offline: a small upstream, the cache before it, and what each kind of pull costs
	@$(BIN)/pullthrough demo

check: setup-dev ## Format, lint, types, layers, docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m docs_build check

format: setup-dev ## Rewrite the sources in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup-dev ## Measure beside nginx, docker-registry, drayage and moto; BENCH_ARGS="--against COMMIT" beside a commit
	@$(BIN)/python -m bench $(BENCH_ARGS)

soak: setup-dev ## 1,000 kills and 10,000 injected faults, an hour or so (see docs/performance.md)
	@$(BIN)/python -m bench.soak

docs: setup-dev ## Build the documentation site into site/
	@$(BIN)/mkdocs build --strict

lock: setup-dev ## Resolve the dependencies anew (needs uv)
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --group build pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --group build --group dev pyproject.toml -o requirements/dev.txt

clean: ## Remove what the targets above made (not .data)
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
