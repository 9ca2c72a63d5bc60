# `make demo` installs Quern and runs the demo sweep; `make test` installs it and runs the tests.
# Each works by itself in an empty clone.

CORES ?= all

.PHONY: demo test lint

demo: .venv/installed
	.venv/bin/snakemake --cores $(CORES)
	@cat results/demo/summary/python.md

test: .venv/installed-dev lint
	.venv/bin/python -m pytest tests

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/snakemake --lint

.venv/installed: requirements.txt
	envs/install.sh requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	envs/install.sh requirements-dev.txt
	touch $@
