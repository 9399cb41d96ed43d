# Targets create the virtual environment if it is missing.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/first

.PHONY: help train test lint types format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/runs: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/develops: requirements-dev.txt requirements-export.txt requirements-demo.txt \
		requirements-cluster.txt $(VENV)/runs
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Without these, tests of the page are skipped; so being offline is no error.
$(VENV)/browses: scripts/get_browser_runtime.py $(VENV)/develops
	-$(BIN)/python scripts/get_browser_runtime.py --chromium && touch $@

train: $(VENV)/runs  ## train the default experiment in runs/first, or resume it
	@if [ -d $(RUN)/last ] || [ -d $(RUN)/last.old ]; \
	then $(BIN)/python train.py trainer.resume_from=$(RUN); \
	else $(BIN)/python train.py run_dir=$(RUN); fi

test: $(VENV)/develops $(VENV)/browses  ## run all tests
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --durations=15

lint: $(VENV)/develops  ## check the code style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/develops  ## check types
	$(BIN)/mypy

format: $(VENV)/develops  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and caches, but no runs or data
	rm -rf $(VENV) .chromium docs/browser/runtime .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
