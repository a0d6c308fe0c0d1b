# Grange's commands. Needs Python 3.11 or newer, git and make; everything else goes into .venv.
#
#   make demo                        what Grange does, on real data, in half a minute
#   make test                        everything that a change must pass
#   make test PYTHON=/path/to/python3.13

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ROUNDS ?= 1

# The first of these that runs and is new enough; a name on the PATH may be a shim for a Python that is not there.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)
endif

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
say = @printf '\n── %s\n' '$(1)'

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz bench bench-peers format constraints clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## From an empty folder to a training set, a model and a served feature vector
	@$(BIN)/grange demo $(ARGS)

test: $(VENV)/.dev ## Lint, format, types, layers, tests; what CI runs
	$(call say,ruff check)
	@$(BIN)/ruff check .
	$(call say,ruff format --check)
	@$(BIN)/ruff format --check .
	$(call say,mypy)
	@$(BIN)/mypy
	$(call say,lint-imports)
	@$(BIN)/lint-imports
	$(call say,pytest -n $(WORKERS))
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

fuzz: $(VENV)/.dev ## The property tests on examples that nobody tried before; ROUNDS=n of them
	$(call say,pytest -n $(WORKERS) of what has properties)
	@for round in $$(seq $(ROUNDS)); do \
		GRANGE_FUZZ=1 $(BIN)/pytest -n $(WORKERS) $$(grep -rl '@given\|RuleBasedStateMachine' tests --include='test_*.py') $(ARGS) \
		|| exit 1; done

bench: $(VENV)/.dev bench-peers ## Every benchmark, peers beside Grange in the same run (hours; see benchmarks/README.md)
	@$(BIN)/python benchmarks/run.py all $(ARGS)

bench-peers: ## Build the environments of the peers that Grange is measured against
	@PYTHON=$(PYTHON) benchmarks/setup.sh

format: $(VENV)/.dev ## Mend what the linter can mend, and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

constraints: $(VENV)/.dev ## Write the versions of this environment to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The environment. `.made` is older than `.demo` and `.dev`, which say what has been installed into it; when the
# project's needs change it is emptied and both are made again. An environment made by hand is taken as it is.
$(VENV)/.demo: $(VENV)/.made
	@echo "installing Grange into $(VENV) (once)"
	@$(PIP) install --constraint constraints.txt --editable '.[sklearn]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made
	@echo "installing Grange and its development tools into $(VENV) (once)"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.made: pyproject.toml constraints.txt
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Grange needs Python 3.11 or newer, and found none.' >&2; \
		echo 'Say where it is: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@if ! '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Grange needs Python 3.11 or newer; $(PYTHON) is $$({ '$(PYTHON)' --version || echo missing; } 2>/dev/null)." >&2; \
		echo 'Say where a newer one is: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@if [ -e $@ ] || [ ! -x $(BIN)/python ]; then \
		'$(PYTHON)' -m venv --clear $(VENV) || { \
		echo 'This Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }; fi
	@touch $@
