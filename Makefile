# Two commands need nothing but python3 (3.11+) and make: `make demo` and `make test`.
PY ?= python3
VENV ?= .venv
SCRIPTS = $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN = $(VENV)/$(SCRIPTS)
STAMP = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all test-notebooks test-floor coverage fuzz lint format bench bench-compare
.PHONY: faults notebooks dist clean

help:
	@echo "make demo               factorise, predict and recommend: the movie table, then planted ratings"
	@echo "make demo RATINGS=path  the same on your own ratings file (options: OPTIONS='--rank 10 --l2 0.1')"
	@echo "make test               the tests, in parallel, without those that take over 5 s"
	@echo "make test-slow          those; make test-all: both; make test-notebooks: the notebooks alone"
	@echo "make test-floor         the tests with the lowest supported NumPy, Numba, SciPy and scikit-learn"
	@echo "make coverage           the share of lines that tests run, kernels included, and its floor"
	@echo "make fuzz               random problems, models and files, for minutes; SEED=1 draws others, and the same again"
	@echo "make lint               ruff (format and lint), mypy --strict and spelling"
	@echo "make bench              time the kernels and save the run; make bench-compare: beside the last saved one"
	@echo "make faults             what comes of each fault here and in scikit-learn, written to benchmarks/faults.md"
	@echo "make notebooks          rebuild and execute the notebooks from notebooks/src"
	@echo "make dist               build wheel and source distribution in dist/, check them, fit with the wheel"

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

# A file is run by one process: its tests share fixtures. Threads of BLAS would only wait for those of the other process.
PYTEST = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
# Two processes compile the kernels first, one for each precision; else each process of the tests would compile them all.
COMPILE = for dtype in float32 float64; do \
  $(BIN)/python -c "import nmfcore; nmfcore.warmup(dtype='$$dtype')" & done; wait

test: $(STAMP)
	@$(COMPILE)
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(STAMP)
	@$(COMPILE)
	$(PYTEST) -m slow $(ARGS)

test-all: test test-slow

test-notebooks: $(STAMP)
	$(BIN)/python -m pytest tests/test_notebooks.py $(ARGS)

# The lowest versions that nmfcore supports. SciPy and scikit-learn are not needed to run it, only to test it.
FLOOR = "numpy==2.0.*" "numba==0.61.*" "scipy==1.13.*" "scikit-learn==1.5.*"
FLOOR_VENV ?= .venv-floor

$(FLOOR_VENV)/.installed: pyproject.toml Makefile
	$(PY) -m venv $(FLOOR_VENV)
	$(FLOOR_VENV)/$(SCRIPTS)/pip install --quiet --disable-pip-version-check -e ".[dev]" $(FLOOR)
	@touch $@

test-floor: BIN = $(FLOOR_VENV)/$(SCRIPTS)
test-floor: $(FLOOR_VENV)/.installed
	@$(COMPILE)
	$(PYTEST) $(ARGS)

# Compiled kernels are invisible to coverage: a few tests run them as plain Python.
coverage: $(STAMP)
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -m interpreted -n 0 --cov --cov-report=
	$(PYTEST) -m "not slow" --cov --cov-append --cov-report=term:skip-covered $(ARGS)

SEED ?= 0

fuzz: $(STAMP)
	NMFCORE_FUZZ=long NMFCORE_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/faults $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell -D - -D tests/british.txt

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

# The wheel is fitted with in an environment that has nothing else, from outside this folder.
dist: $(STAMP)
	@test -z "$(TAG)" || $(BIN)/python -c 'import nmfcore; assert "v" + nmfcore.__version__ == "$(TAG)", nmfcore.__version__'
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[release]"
	rm -rf dist build/fresh
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(PY) -m venv build/fresh
	build/fresh/$(SCRIPTS)/pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && fresh/$(SCRIPTS)/python -c 'import nmfcore; assert nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0).converged'

clean:
	rm -rf $(VENV) $(FLOOR_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* build dist demo-model.npz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
