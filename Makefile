# The commands of the workspace. The environment is .venv; its commands are .venv/bin/…
# Everything a target needs beyond Python >= 3.11, Node >= 20 and the package registries, it installs itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := sdk host plugins/wasm plugins/cron plugins/consensus plugins/confidential_workflows plugins/vault plugins/demo
SETUP := $(VENV)/.innkeeper-setup

.PHONY: setup lock demo test check bench
.DEFAULT_GOAL := setup

setup: $(SETUP)

# pip is used once, for uv; uv installs the rest, both from pinned and hashed requirements.
$(SETUP): requirements/uv.txt requirements/dev.txt $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "innkeeper needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	touch $@

# Names no index host and no path of this machine, so that the files read the same everywhere.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock'
lock:
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) --group pyproject.toml:dev $(MEMBERS:%=%/pyproject.toml) \
		--no-emit-package innkeeper-sdk --no-emit-package innkeeper --no-emit-package innkeeper-wasm \
		--no-emit-package innkeeper-confidential-workflows -o requirements/dev.txt

include proto.mk

# Builds the examples that are not built yet, runs them, attacks them, cleans up; exits with 0 only if all of it held.
demo: setup
	$(BIN)/innkeeper demo

# The set-up of tests that need more (Node for guests, PostgreSQL) is theirs: without it they skip and say why.
PYTEST_FLAGS ?= -n auto
test: setup
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_FLAGS)

check: setup check-proto
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/e2e/test_docs.py -k links

# One JSON object a line; ratios within one run.
BENCHES := execute execute_parallel
bench: setup
	@for name in $(BENCHES); do $(BIN)/python -m bench.$$name || exit 1; done
