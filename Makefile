# `make demo` installs Quern and runs the demo sweep; `make test` installs it and runs the tests;
# `make check` is the quick part of the latter, to run between edits. Each works by itself in an empty
# clone.

CORES ?= all

.PHONY: demo test check lint

demo: .venv/installed
	.venv/bin/snakemake --cores $(CORES)
	@cat results/demo/summary/python.md

test: .venv/installed-dev lint
	.venv/bin/python -m pytest tests

check: .venv/installed-dev lint
	.venv/bin/python -m pytest tests/unit

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
