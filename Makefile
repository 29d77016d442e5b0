# make demo    set up, then pretrain and evaluate on digits: three minutes on two cores
# make test    set up, then lint, types and the tests
# make test-all   the same with the tests that show it again at length; for CI
# make test-fast  set up, then the unit tests, without those that train for long
# make docs    set up, then build the pages as a site in site/; open site/index.html
# make faults  set up, then stop, kill and damage runs in many ways, and count
# make pins    complete the file in constraints/ for PYTHON's version (CONTRIBUTING.md)
# make clean   remove the virtual environment, the demo's run and the site
#
# Setting up installs the versions of constraints/, in the file for .venv's Python, into
# .venv, again when they change. PYTHON=python3.12 chooses the interpreter of a new .venv:
# 3.11 or newer, and up to 3.13 for `make test`, because TensorFlow has no packages for
# newer ones.
# JAX=cuda12 | cuda13 | cpu chooses a build of jax; by default the one for the driver.

PYTHON ?= python3
BIN := .venv/bin
# Of .venv's interpreter or, before there is a .venv, of the one that will make it.
VERSION := $(shell $(or $(wildcard $(BIN)/python),$(PYTHON)) -c \
  'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CONSTRAINTS := $(wildcard constraints/$(VERSION).txt)
export PIP_CONSTRAINT := $(CONSTRAINTS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# CUDA 13 needs driver 580 or newer, CUDA 12 driver 525. Without a driver: the CPU build.
DRIVER := $(shell nvidia-smi --query-gpu=driver_version --format=csv,noheader \
  2>/dev/null | head -n 1 | cut -d. -f1 | grep -E '^[0-9]+$$' || echo 0)
JAX ?= $(shell [ $(DRIVER) -ge 580 ] && echo cuda13 || \
  { [ $(DRIVER) -ge 525 ] && echo cuda12; } || echo cpu)
comma := ,
EXTRA := $(if $(filter cuda12 cuda13,$(JAX)),$(JAX)$(comma))

.PHONY: demo test test-all test-fast docs faults lint types pins clean

# Each file runs in one worker, the longest files first (tests/conftest.py). On two cores
# three workers take as long as two.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

demo: .venv/ready-$(JAX)-demo
	$(BIN)/python launch.py --config=configs/demo.py --workdir=runs/demo

test: lint types
	$(PYTEST) -m "not thorough"

test-all: lint types
	$(PYTEST)

test-fast: .venv/ready-$(JAX)-test
	$(PYTEST) tests/unit -m "not slow"

# FAULTS="--only=kills --seed=1" chooses; see benchmarks/faults/__main__.py.
faults: .venv/ready-$(JAX)-test
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.faults --out=runs/faults.jsonl $(FAULTS)

lint: .venv/ready-$(JAX)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-$(JAX)-test
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/ready-$(JAX)-test
	JAX_PLATFORMS=cpu $(BIN)/python -m mkdocs build --strict

pins:
	$(PYTHON) constraints/resolve.py

clean:
	rm -rf .venv runs/demo site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f"simclr_jax needs Python 3.11 or newer, this is {v[0]}.{v[1]}: \
	make PYTHON=python3.12")'
	@echo "creating .venv with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is \
	  missing or broken (on Debian: apt install python3-venv)" >&2; exit 1; }

.venv/ready-$(JAX)-%: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	@[ $* = demo ] || $(BIN)/python -c 'import sys; v = sys.version_info; \
	  sys.exit(v >= (3, 14) and f"TensorFlow, which `make $*` installs, needs Python \
	3.11 to 3.13, this is {v[0]}.{v[1]}: rm -r .venv; make $* PYTHON=python3.13")'
	@echo "installing $(if $(CONSTRAINTS),the packages that $(CONSTRAINTS) pins,the \
	newest packages, untested: there is no constraints/$(VERSION).txt) \
	($*, jax for $(JAX)) into .venv ..."
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA)$*]'
	@touch $@
