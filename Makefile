# What a person or CI runs. Each target sets up .venv first, once; it is made again when the lock or the project file changes.
# Needs make and Python 3.11 or newer, and whatever package index pip is configured for.

PYTHON  ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
# Only `make lock` reads it: the torch to resolve everything else against.
TORCH   ?= $(shell sed -n 's/^torch==//p' requirements.lock)

BIN   := .venv/bin
STAMP := .venv/.setup-stamp

# An inherited path or prefix would bring foreign packages into a fresh environment.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve-demo test lint types bench lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name what; do printf '%-16s %s\n' "$$name" "$$what"; done
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter, WORKERS=4 the test processes, PYTEST_ARGS='-k bm25' what pytest gets."

setup: $(STAMP) ## only make the virtual environment

# torch goes in by itself, first, so that no later step can pull another build of it.
$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "retgen needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@grep -q '^torch==' requirements.lock || { echo "requirements.lock names no torch; make it again with: make lock TORCH=<version>"; exit 1; }
	@set -e; start=$$(date +%s); \
	echo "setting up .venv (once; some minutes)"; \
	"$(PYTHON)" -m venv .venv; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $(STAMP); \
	echo "set-up took $$(($$(date +%s) - start)) s"

demo: $(STAMP) ## the whole story on the embedded data
	@$(BIN)/retgen demo

# The demo's artefacts are made once and kept; the server starts on them from then on.
serve-demo: $(STAMP) ## the demo, kept in runs/demo, then its answer service and page at http://127.0.0.1:8000
	@[ -f runs/demo/pipeline.yaml ] || $(BIN)/retgen demo --out runs/demo
	@$(BIN)/retgen serve runs/demo/pipeline.yaml

# One thread a process: two processes with two threads each would fight over two cores.
# In the files' own order: sorted by their number of tests, the files of few long tests would come last, on one process.
test: export OMP_NUM_THREADS = 1
test: $(STAMP) ## every test, doctests included
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP) ## ruff, its formatter, and the floors of the house
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/lint-imports --no-logo || status=1; \
	exit $$status

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

bench: $(STAMP) ## ratios against named peers on this machine
	@set -e; for file in benchmarks/bench_*.py; do \
		[ -f "$$file" ] || { echo "there is no benchmark yet (benchmarks/bench_*.py)"; exit 1; }; \
		echo "$$file"; $(BIN)/python "$$file"; \
	done

lock: ## resolve requirements.lock anew (TORCH=2.13.0 names the torch to start from)
	@"$(PYTHON)" scripts/lock.py --torch "$(TORCH)" --out requirements.lock

clean: ## remove the virtual environment, caches and build outputs
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
