# `make` lists the targets. PYTHON=… chooses the interpreter and TORCH=… the build of PyTorch (see
# setup/install.sh); .venv keeps them until others are asked for.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test slurm-test lint format clean distclean

# The caller's Python settings and locale make no difference to what runs here.
unexport PYTHONPATH PYTHONHOME
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export LC_ALL := C.UTF-8
WANDB_MODE ?= offline
export PYTHON TORCH WANDB_MODE

SHELL_SCRIPTS := setup/*.sh slurm/*.sh tests/slurm/*.sh .ci/run

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install what is missing: system packages, then .venv with everything pinned
	@bash setup/install.sh

quickstart: setup ## train HDKD on scikit-learn's digits, into runs/quickstart; ARGS="--resume auto"
	python hdkd_dist/train.py --ds_config ds_configs/quickstart.json $(ARGS)

test: setup ## run all tests; ARGS="-k name" passes options to pytest
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)  # see tests/conftest.py

slurm-test: setup ## the job scripts on a real two-node Slurm on this machine; needs root
	bash tests/slurm/prove.sh

lint: setup ## check style, formatting, types and, where shellcheck is installed, the shell scripts
	ruff check .
	ruff format --check .
	mypy
	@# What torch types too widely (network.num_exits is "Tensor | Module") is left out there.
	MYPYPATH=benchmarks mypy benchmarks examples data_prep --disable-error-code=arg-type \
	  --disable-error-code=union-attr --disable-error-code=operator --disable-error-code=index \
	  --disable-error-code=dict-item
	@! command -v shellcheck >/dev/null || shellcheck $(SHELL_SCRIPTS)

format: setup ## fix style and formatting
	ruff check --fix .
	ruff format .

clean: ## remove caches and build leftovers; keeps .venv, data and runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove .venv as well; keeps data and runs
	rm -rf .venv
