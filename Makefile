# The commands of the README, `make demo` and `make test`, and a developer's own: `make fast` while working on the core,
# `make check` before a commit. Each sets up what it needs first, and is cheap to repeat.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup-done
# PyTorch without CUDA, where there is no GPU and its index can be reached.
TORCH_CPU := https://download.pytorch.org/whl/cpu
CAN_REACH := import urllib.request; urllib.request.urlopen('$(TORCH_CPU)/', timeout=10)

SHAPES := --jaxtyping-packages=mnemask,beartype.beartype

.PHONY: setup demo test fast check docs results release-check lint types layers clean

setup: $(SETUP)

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mnemask needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "installing into .venv (minutes the first time) ..."
	@if ! command -v nvidia-smi > /dev/null && $(BIN)/python -c "$(CAN_REACH)" 2> /dev/null; then \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_CPU) torch; fi
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# Draws a video, reads it from its file, segments it with the embedded model, scores it, and leaves pictures in demo/.
demo: setup
	$(BIN)/mnemask demo --out demo

# Processes of one thread each: with more, they wait for one another, and it takes three times as long on two cores.
test: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest \
	  -n $$($(BIN)/python -c 'import os; print(max(2, min(os.cpu_count(), 8)))') --dist worksteal $(PYTEST_ARGS)

# The core alone, in under a minute on one core: memory, tracker, network, and masks recorded from earlier versions.
# Few drawn examples of each property, and the quick ones of the recorded masks; `make test` has them all. Each call is
# checked against its annotated shapes and types, which takes as long again as the calls of the memory themselves.
fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 $(SHAPES) --durations=5 --durations-min=1 --ignore-glob='*/conftest.py' \
	  -m "not thorough" --hypothesis-profile=fast \
	  tests/memory tests/tracker tests/model tests/test_recorded_masks.py $(PYTEST_ARGS)

check: lint types layers

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Imports that run against the direction of the boxes, errors without a way out, documents that name what is gone.
layers: setup
	$(BIN)/python -m pytest -n 0 tests/test_import_layers.py tests/test_errors.py tests/test_where_is_what.py

# The site of docs/ in site/; a broken link or a page without a place in the navigation fails. What happened in the last
# test run stands beside the promises if that left build/tests.xml.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Rebuilds the tables that documents show from the weights in the package: hours on a CPU, resumable.
# In minutes, to see that it runs: make results RESULTS_ARGS=--quick
results: setup
	$(BIN)/python benchmarks/results.py $(RESULTS_ARGS)

# What a release uploads, in dist/: wheel and source, as PyPI will read them, and the bill of materials in build/.
release-check: setup
	rm -rf dist && mkdir -p build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pytest -n 0 tests/test_release.py
	$(BIN)/python docs/make_sbom.py build/sbom.json

clean:
	rm -rf .venv demo build dist site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
