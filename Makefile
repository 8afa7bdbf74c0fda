# Every target sets up .venv by itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/stage1_entropy
QUICK ?= 0
SEEDS ?= 1
FLAGS ?=

.PHONY: lab test test-slow lint bench pods nano world clean

$(VENV)/.installed: setup.py requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# The warm-start entropy study; prints the path of its report.
lab: $(VENV)/.installed
	$(BIN)/python -m experiments.stage1_entropy.run \
	  --workdir=$(WORKDIR)$(if $(filter 1,$(QUICK)),-quick --quick) \
	  --seeds=$(SEEDS) $(FLAGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n auto --dist=loadfile -m "not slow" tests

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -m slow tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.installed-test
	for file in benchmarks/*.py; do \
	  $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

# Compiles the matrix of cells for TPU slices; docs/pods.md. Resumable.
pods: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[plan]'
	$(BIN)/python -m jaxvlm.tools.pods $(FLAGS)

# Trains the two shipped models from nothing.
nano: $(VENV)/.installed
	$(BIN)/python -m experiments.nano.run $(FLAGS)

# Draws the generated world on one sheet.
world: $(VENV)/.installed
	$(BIN)/jaxvlm world --out=world.png

clean:
	rm -rf $(VENV) runs build *.egg-info
