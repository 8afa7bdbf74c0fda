# Every target sets up .venv by itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/stage1_entropy
QUICK ?= 0
SEEDS ?= 1
FLAGS ?=
OLD ?= HEAD~1
NEW ?= HEAD
# The versions that jax and setup.py accept.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

quick := $(filter 1 yes true on y YES Yes TRUE True,$(QUICK))
ifneq ($(QUICK),$(firstword $(quick) $(filter 0 no false off n,$(QUICK))))
$(error QUICK is '$(QUICK)', expected 1 or 0, yes or no, true or false)
endif

.PHONY: lab test test-slow lint bench golden pods nano world docs clean

# A .venv of another Python, or one that was left half made, is made again.
usable := $(shell $(BIN)/python -c 'import pip; $(FITS)' 2>&1 && echo yes)
ifneq ($(usable),yes)
.PHONY: $(VENV)/.installed
endif

$(VENV)/.installed: setup.py requirements.txt
ifneq ($(usable),yes)
	@$(PYTHON) -c '$(FITS)' || { echo "make: $(PYTHON) is" \
	  "$$($(PYTHON) --version 2>&1), expected Python 3.11 to 3.13; give" \
	  "another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
endif
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# The warm-start entropy study; prints the path of its report.
lab: $(VENV)/.installed
	$(BIN)/python -m experiments.stage1_entropy.run \
	  --workdir=$(WORKDIR)$(if $(quick),-quick --quick) \
	  --seeds=$(SEEDS) $(FLAGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n auto --dist=loadfile -m "not slow" tests

# The fast suite compiles cheaply, this one as a user does (tests/compiling.py).
test-slow: $(VENV)/.installed-test
	OPTIMIZED_TESTS=1 $(BIN)/python -m pytest -q -m slow tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	for file in $$(grep -l __main__ benchmarks/*.py); do \
	  $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

# Runs short studies with two commits and compares them, bit by bit:
# make golden OLD=HEAD~1 NEW=HEAD
golden: $(VENV)/.installed
	$(BIN)/python scripts/golden.py $(OLD) $(NEW)

# Compiles the matrix of cells for TPU slices; docs/pods.md. Resumable.
pods: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[plan]'
	$(BIN)/python -m jaxvlm.tools.pods $(FLAGS)

# Trains the two shipped models from nothing.
nano: $(VENV)/.installed
	$(BIN)/python -m experiments.nano.run $(FLAGS)

# Draws the generated worlds, one sheet each.
world: $(VENV)/.installed
	$(BIN)/jaxvlm world --out=runs/world.png
	$(BIN)/jaxvlm world --scenes --out=runs/scenes.png

# Builds the documentation into site/; a broken link is an error.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo 'site/index.html; with search: python -m http.server -d site'

clean:
	rm -rf $(VENV) runs site build *.egg-info
