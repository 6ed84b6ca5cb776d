# Commands for users and developers. `make install` comes first by itself.
#
#   PYTHON  interpreter that creates the environment, 3.11 or newer
#   TORCH   which torch: a version (torch==2.13.0), or a further index of wheels (torch --extra-index-url ...);
#           pip gets it together with lami, so that torchvision is chosen to fit and does not replace it

PYTHON ?= python3
TORCH ?= torch
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test sanitize lint counts docs bench gpu weights clean

help:
	@echo "make install   create $(VENV) with lami and everything it needs"
	@echo "make demo      run the demonstration into out/demo"
	@echo "make test      run the quick tests"
	@echo "make sanitize  10,000 hostile calls of the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make lint      check style and types"
	@echo "make counts    compare instructions of the CPU kernels with the baseline (a minute; needs valgrind)"
	@echo "make docs      build the documentation into site/; warnings are errors"
	@echo "make bench     measure the fused ops beside eager PyTorch (half an hour on a CPU)"
	@echo "make gpu       on a machine with a GPU: build, all tests, compute-sanitizer and benchmarks into one folder"
	@echo "make weights   train the demonstration's weights anew (three hours on one core of a CPU)"
	@echo "make clean     remove $(VENV), build products and caches"

install: $(STAMP)

$(STAMP): pyproject.toml setup.py $(wildcard csrc/*.h csrc/*.cpp csrc/*/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "lami needs Python 3.11 or newer: name one, for example make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot create environments: install python3-venv (sudo apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# What builds the native libraries comes first and is then used in place, or pip would fetch a second torch for it.
	$(BIN)/python -m pip install $(TORCH) "setuptools>=77" ninja "pybind11>=2.13"
	$(BIN)/python -m pip install $(TORCH) --no-build-isolation --editable ".[dev,bench,docs,web]"
	@touch $@

demo: install
	$(BIN)/lami demo --output out/demo --overwrite

test: install
	$(BIN)/python -m pytest --numprocesses auto

sanitize: install
	$(BIN)/python -m pytest -m slow tests/csrc/test_fuzz.py

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

counts: install
	$(BIN)/python -m benchmarks.instructions

docs: install
	$(BIN)/python docs/build.py

bench: install
	$(BIN)/python -m benchmarks.ops
	$(BIN)/python -m benchmarks.report

gpu: install
	$(BIN)/python benchmarks/gpu.py

# The keypoints come first, alone: without images a step takes a fraction of the time.
weights: install
	rm -rf runs/demo runs/demo-keypoints
	$(BIN)/lami train demo --training.output runs/demo-keypoints --training.batch-size 32 --training.epochs 16 --training.milestones 14 \
		--training.learning-rate 2e-3 --losses.reconstruction 0 --losses.feature 0 --losses.warp 0 --losses.pixel 0
	$(BIN)/lami train demo --training.init-from runs/demo-keypoints/model.safetensors
	$(BIN)/lami convert --half runs/demo/model.safetensors lami/weights/demo.safetensors

clean:
	rm -rf $(VENV) lami/*.so build dist site .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
