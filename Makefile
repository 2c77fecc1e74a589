# `make demo` and `make test` are all the set-up there is; either one builds the environment first.
#
#   VENV    where the environment lives         (default .venv)
#   PYTHON  the interpreter that it is made of  (default python3)

PYTHON ?= python3
VENV   ?= .venv

RUN := $(VENV)/bin/python -m
# A file's tests share what they build, so they stay in one process; one thread each, or the processes fight for cores.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

# The environment is up to date for these dependencies, this Python and this checkout (the install is editable).
KEY   := $(shell { cat setup.cfg pyproject.toml; echo "$(PYTHON_VERSION) $(CURDIR)"; } | cksum | cut -d ' ' -f 1)
READY := $(VENV)/.ready-$(KEY)

.PHONY: help demo docs test test-slow lint format
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-18s %s\n' "$$target" "$$text"; done

demo: $(READY) ## the whole pipeline on built-in images; writes ./recon-demo
	$(VENV)/bin/recon demo

docs: $(READY) ## the documentation site, from docs/ into build/site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "The site is there: build/site/index.html"

test: $(READY) ## the test suite
	$(PYTEST)

test-slow: $(READY) ## the tests marked slow, which `make test` leaves out
	$(PYTEST) -m slow

lint: $(READY) ## style, formatting and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: $(READY) ## put right what can be put right automatically
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# A folder made here carries `.unfinished` until its first install succeeds: after an interruption it is started over.
# A folder that was there before is never emptied.
$(READY):
	@case "$(PYTHON_VERSION)" in \
	3.11|3.12|3.13) ;; \
	*)	echo "Recon needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $(or $(PYTHON_VERSION),not there)." >&2; \
		echo "Name another interpreter: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1 ;; \
	esac
	@if [ ! -e "$(VENV)" ]; then mkdir -p "$(VENV)" && touch "$(VENV)/.unfinished"; fi
	@if [ -e "$(VENV)/.unfinished" ]; then \
		echo "Making the environment in $(VENV) with Python $(PYTHON_VERSION): once, about 6 GB and 3 minutes."; \
		find "$(VENV)" -mindepth 1 ! -name .unfinished -delete && \
		$(PYTHON) -m venv --upgrade-deps "$(VENV)"; \
	else \
		echo "Bringing the environment in $(VENV) up to date."; \
	fi
	@if [ ! -x "$(VENV)/bin/python$(PYTHON_VERSION)" ]; then \
		echo "$(VENV) is no environment of Python $(PYTHON_VERSION): delete it, or name another: VENV=FOLDER" >&2; \
		exit 1; \
	fi
	@rm -f "$(VENV)"/.ready-*
	$(RUN) pip install --editable '.[test]'
	@rm -f "$(VENV)/.unfinished"
	@touch "$@"
