# `make demo` installs Quern and runs the demo sweep; `make test` installs it and runs the tests;
# `make check` is the quick part of the latter, to run between edits. Each works by itself in an empty
# clone.

CORES ?= all

.PHONY: demo test test-sweeps test-others test-slurm check check-kernels check-others lint

demo: .venv/installed
	PYTHONPATH=plugins .venv/bin/snakemake --logger calm --cores $(CORES)
	@cat results/demo/summary/python.md results/demo/report/python.md
	@echo "The page: results/demo/report/python/index.html"

test: .venv/installed-dev lint
	@$(MAKE) --no-print-directory -j3 test-sweeps test-others test-slurm

# Two halves of the tests, of about the same length; most of them keep one core busy. Those of Slurm
# wait most of their time.
SWEEPS = $(addprefix tests/workflow/test_, demo.py growth.py mixes.py foreign.py rounding.py)

test-sweeps:
	.venv/bin/python -m pytest -q $(SWEEPS)

test-others:
	.venv/bin/python -m pytest -q tests $(addprefix --ignore=,$(SWEEPS) tests/slurm)

test-slurm:
	.venv/bin/python -m pytest -q tests/slurm

check: .venv/installed-dev lint
	@$(MAKE) --no-print-directory -j2 check-kernels check-others

# Two halves of the unit tests, of about the same length.
KERNELS = tests/unit/rounding tests/unit/measure/test_statistics.py tests/unit/mix tests/unit/corpus

check-kernels:
	.venv/bin/python -m pytest -q -m 'not slow' $(KERNELS)

check-others:
	.venv/bin/python -m pytest -q -m 'not slow' tests/unit $(addprefix --ignore=,$(KERNELS))

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/python tests/lint_rules.py

.venv/installed: requirements.txt
	envs/install.sh requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt requirements-slurm.txt requirements-s3.txt .venv/installed
	envs/install.sh requirements-dev.txt
	touch $@
