# Two commands need nothing but python3 (3.11+) and make: `make demo` and `make test`.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz lint format bench bench-compare faults notebooks clean

help:
	@echo "make demo               factorise, predict and recommend: the movie table, then planted ratings"
	@echo "make demo RATINGS=path  the same on your own ratings file (options: OPTIONS='--rank 10 --l2 0.1')"
	@echo "make test               the test suite, checked against scikit-learn"
	@echo "make fuzz               random problems, models and files, for minutes; SEED=1 draws others, and the same again"
	@echo "make lint               ruff (format and lint) and mypy --strict"
	@echo "make bench              time the kernels and save the run; make bench-compare: beside the last saved one"
	@echo "make faults             what comes of each fault here and in scikit-learn, written to benchmarks/faults.md"
	@echo "make notebooks          rebuild and execute the notebooks from notebooks/src"

# The environment is rebuilt when pyproject.toml changes.
$(STAMP): pyproject.toml
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nmfcore needs Python 3.11 or newer; $(PY) is older. Name another: make PY=python3.12"; exit 1; }
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "python3-venv is missing: install it (Debian, Ubuntu: sudo apt-get install python3-venv)"; exit 1; }
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(STAMP)
ifdef RATINGS
	$(BIN)/python -m nmfcore fit "$(RATINGS)" --test 0.1 --out demo-model.npz $(OPTIONS)
	$(BIN)/python -m nmfcore recommend demo-model.npz
else
	$(BIN)/python -m nmfcore demo
endif

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

SEED ?= 0

fuzz: $(STAMP)
	NMFCORE_FUZZ=long NMFCORE_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/faults $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# `make bench`, edit, `make bench-compare`; a number of .benchmarks with RUN=0001, a share of them with ARGS='-k sparse'.
BENCH = $(BIN)/python -m pytest benchmarks/test_kernels.py --benchmark-enable --benchmark-only \
  --benchmark-columns=min,median,iqr,rounds --benchmark-sort=name

bench: $(STAMP)
	$(BENCH) --benchmark-autosave $(ARGS)

bench-compare: $(STAMP)
	$(BENCH) --benchmark-compare$(if $(RUN),=$(RUN)) --benchmark-compare-fail=min:25% $(ARGS)

faults: $(STAMP)
	$(BIN)/python -m benchmarks faults $(ARGS)

notebooks: $(STAMP)
	$(BIN)/python notebooks/build.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-model.npz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
