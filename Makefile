# Two commands: `make demo` shows what this is, `make test` checks all of it.
# Both do their own set-up; nothing outside this folder is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests wait a lot: for caches, for silence to be noticed, for machines that restart.
WORKERS ?= $(shell expr $$(nproc) + 1)

.PHONY: demo test check bench lab lab-down clean

demo: $(VENV)/ready
	$(BIN)/runbook demo $(DEMO)

test: $(VENV)/ready-dev check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Compares with other tools where they are installed: the extra `bench`.
bench: $(VENV)/ready-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	for file in tests/bench/bench_*.py; do \
	  $(BIN)/python -m tests.bench.$$(basename $$file .py) || exit 1; done

# Two sites in network namespaces, with real daemons, to walk about in. Needs root.
lab: $(VENV)/ready-dev
	$(BIN)/python -m tests.lab up

lab-down: $(VENV)/ready-dev
	$(BIN)/python -m tests.lab down

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  $(PYTHON) -m venv --clear $(VENV) || \
	  { echo 'Python cannot make a virtual environment here. On Debian or Ubuntu: sudo apt-get install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
