PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests share what is costly to make, and so a worker; more of them than cores are slower.
WORKERS ?= 2
# The commit from which lines differ that get faults, and how many of these are tried.
SINCE ?= main
SAMPLE ?= 20
# Another version of Flower under which `make test-flwr` tests, over the packages of .venv.
FLWR ?= 1.42.0
OTHER := .venv-flwr-$(FLWR)

.PHONY: install demo test test-flwr lint docs pages mutants bench clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make install   make .venv with everything a run needs (torch and Flower: about 6 GB)"
	@echo "make demo      install, then run a small federation and attack it: results/demo/report.html"
	@echo "make test      install the test tools; lint, types, tests"
	@echo "make test-flwr what concerns Flower, under another version of it: FLWR=1.42.0"
	@echo "make lint      lint and types alone"
	@echo "make mutants   install Cosmic Ray; try small faults in changed lines: SINCE=main SAMPLE=20"
	@echo "make bench     measure speed and scale anew: results/bench (some 20 minutes of an idle machine)"
	@echo "make docs      install the documentation tools; build site/index.html"
	@echo "make pages     write the pages made of results and settings: docs/results, README.md"
	@echo "make clean     remove .venv and caches, not results"

install: $(VENV)/.installed

demo: install
	$(BIN)/fl-sim run --config configs/demo.toml --out results/demo --overwrite

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-flwr: $(OTHER)/.installed
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest tests/strategies tests/integration tests/fl_sim/engines

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pages: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks pages

mutants: $(VENV)/.installed-mutants
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks mutants --since $(SINCE) --sample $(SAMPLE)

bench: install
	$(BIN)/python -m benchmarks suite

clean:
	rm -rf $(VENV) .venv-flwr-* build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are made last, so that an install cut short is done again.
$(VENV)/.installed: pyproject.toml requirements.txt constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)/.installed-mutants: $(VENV)/.installed-test
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[test,mutants]"
	touch $@

$(OTHER)/.installed: $(VENV)/.installed-test
	$(BIN)/python -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --disable-pip-version-check --no-deps flwr==$(FLWR)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($(OTHER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/others.pth"
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fl-sim needs Python 3.11 or newer, and $(PYTHON) is not:" \
		     "try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
