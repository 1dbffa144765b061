# make repro                       sets up .venv and runs the whole pipeline
# make cells                       the same, with one cell at a time on each GPU (or DEVICES="0 1")
# make shared                      for several machines: what all cells need, from the DVC remote and back to it
# make worker CELLS="rl-0 rl-1"    for several machines: these cells, likewise
# make watch                       all cells, what is done, running or waiting, curves so far, time left
# make experiments                 a line per experiment: what is changed in it, and the methods' accuracies
# make compare A=... B=...         two experiments or commits side by side; default: the last commit, the working directory
# make test                        sets up .venv and runs the tests, but for the slow ones
# make test-all                    all tests: also those that start many processes
# make study                       runs what is missing of the study: hours (PROCESSES=N runs at a time; default: a core each)
# make lint                        sets up .venv and checks style and types
# make torture                     kills every stage hundreds of times, for a quarter of an hour

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: install repro cells shared worker remote watch experiments compare study test test-all torture lint

install: $(VENV)/installed

$(VENV)/installed: requirements.txt requirements-katex.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/share/katex -r requirements-katex.txt
	@touch $@

repro: install
	dvc repro

cells: install
	@tools/run_cells.sh

shared: remote
	dvc repro --pull evaluate_untrained_student curriculum_code
	python -m tools.push_stage evaluate_untrained_student
	python -m tools.push_stage curriculum_code

worker: remote
	@test -n "$(CELLS)" || { echo 'error: no cells are given: make worker CELLS="rl-0 rl-1"' >&2; exit 1; }
	@tools/run_cells.sh --remote $(CELLS)

remote:
	@dvc remote default >/dev/null || { echo 'error: name the DVC remote first: dvc remote add --default storage URL' >&2; exit 1; }

watch: install
	@python -m pipeline.watch

experiments: install
	@python -m pipeline.experiments

compare: install
	@python -m pipeline.compare $(or $(A),HEAD) $(or $(B),workspace)

study: install
	python -m benchmarks.study $(if $(PROCESSES),--processes $(PROCESSES))

torture: install
	python -m tests.faults.torture

test: install
	python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not slow"

test-all: install
	python -m pytest -n auto --maxprocesses 8 --dist loadfile --durations 30

lint: install
	ruff check .
	mypy
