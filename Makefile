# `make run` and `make test` do their own set-up. Nothing has to be installed by hand but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# Tests that use the Ray cluster in one process, the others file by file beside it: see tests/conftest.py.
PARALLEL ?= -n 2 --dist loadgroup

.PHONY: run test test-slow test-gpu test-hosts test-browser test-chaos gpu-check gpu-wheels lint format docs setup clean
.DEFAULT_GOAL := run

run: $(READY)  ## the quickstart, shown pictures of the target: from nothing to outputs/latest/report.html
	@$(BIN)/posegen run experiment=quickstart_target $(ARGS)

test: $(READY)  ## all tests that need no GPU and no patience
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-slow: $(READY)  ## the tests marked slow
	$(BIN)/python -m pytest -m "slow and not gpu and not hosts and not browser and not chaos" $(ARGS)

test-gpu: $(READY)  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-hosts: $(READY)  ## the tests on several hosts, which are network namespaces, and on one core with 4 GB: needs root and iproute2
	$(BIN)/python -m pytest -m hosts $(ARGS)

test-chaos: $(READY)  ## an hour of kills, a full disk and other faults; for one table: python -m tests.chaos --kills 50
	$(BIN)/python -m pytest -m chaos $(ARGS)

gpu-check: $(READY)  ## tests and speed on a card, into build/gpu-check
	$(BIN)/python tests/gpu/check.py --out build/gpu-check $(ARGS)

gpu-wheels: $(READY)  ## what a machine with a card and no network needs, into .whl and .whl2
	$(BIN)/python cluster/gpu_wheels.py pack $(ARGS)

test-browser: $(READY)  ## pages in a headless Chromium: needs chromium and chromium-driver
	$(BIN)/python -m pytest -m browser $(ARGS)

lint: $(READY)
	$(BIN)/ruff check platform jobs tests
	$(BIN)/ruff format --check platform jobs tests
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix platform jobs tests
	$(BIN)/ruff format platform jobs tests

docs: $(READY)  ## the documentation as pages, build/site/index.html; any warning is an error
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

setup: $(READY)

$(READY): pyproject.toml constraints.txt setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh setup.sh
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
