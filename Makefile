# Two commands for a fresh machine: `make demo` and `make test`. Needs Python >= 3.11 and make; uv comes in through pip.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(VENV)/uv/bin/uv
export UV_NO_PROGRESS ?= 1

.PHONY: demo test check lint types floors bench docs lock install clean

demo: install ## train three models on the embedded digits, print the board
	$(BIN)/greenml train cnn --dataset digits --epochs 8 --batch-size 32
	$(BIN)/greenml train mobilenetv2_050 --dataset digits --epochs 8 --batch-size 32
	$(BIN)/greenml train resnet18 --fp16 --dataset digits --epochs 3 --batch-size 32
	$(BIN)/greenml board
	@echo "the runs' files are in store/runs/; next: $(BIN)/greenml runs show RUN, $(BIN)/greenml train --help"

test: install ## pass the tests
	$(BIN)/python -m pytest

check: install lint types floors ## what CI runs
	$(MAKE) --no-print-directory test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

floors: install
	$(BIN)/lint-imports

bench: install ## speed, with n and spread
	$(BIN)/python tests/bench.py

docs: install ## fill every output block of the README again
	$(BIN)/python tests/readme.py

# Without `phone`: ExecuTorch brings tokenizers and Core ML, of which nothing here makes use.
EXTRAS := --extra compress --extra cluster --extra trackers --extra dev

lock: $(UV) ## pin every version with hashes
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 $(EXTRAS) --no-header --no-annotate --output-file requirements.lock pyproject.toml

install: $(VENV)/installed

# uv gets an environment of its own inside ours: `uv pip sync` removes whatever the lock does not name.
$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "greenml needs Python >= 3.11; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

# Compiled now, once: loading torch and timm takes twice as long otherwise, at every start.
$(VENV)/installed: requirements.lock pyproject.toml $(UV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

clean: ## remove the environment and caches; never the store
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
