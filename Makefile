# `make` alone says what there is. Everything runs in the project's own .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TOOLS_INSTALLED := .venv-tools/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := .venv-tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make locks' $(UPGRADE)
IMAGE_EXTRAS := --extra console --extra intake --extra metrics
DOCS_INSTALLED := .venv-docs/.installed
BENCH_INSTALLED := .venv-bench/.installed
SOURCES := dispatcher tests migrations benchmarks examples scripts
PYTEST := $(BIN)/python -m pytest
NOT_LONG := -m "not slow and not soak"
# Half of what a test does is wait: twice as many processes as processors.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
SPREAD = -n $(PROCESSES) --dist worksteal
SEEDS ?= 20
SEED ?= 1
MINUTES ?= 60
LEADS ?= 10000
KILLS ?= 500
SECONDS ?= 120
EXAMPLES ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-pg15 lint format kill-storm bench bench-all faults model soak hosts upgrade standby patroni kill-9 outage fuzz mutants locks manifests site pictures audit clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv with everything in it, at the pinned versions

$(INSTALLED): pyproject.toml locks/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make setup PYTHON=python3.13"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) --require-hashes --requirement locks/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## The whole thing in a minute: leads, a misbehaving Voicery, a killed worker, and the account of it
	$(BIN)/dispatcher demo

test: $(INSTALLED) ## All tests but the long ones
	$(PYTEST) $(SPREAD) $(NOT_LONG)

test-unit: $(INSTALLED) ## The pure rules, in seconds
	$(PYTEST) tests/unit

test-pg15: $(INSTALLED) ## The database tests on Postgres 15 (Debian's; installed if missing and root)
	TEST_POSTGRES_BIN_DIR="$$(tests/support/find-postgres 15)" && export TEST_POSTGRES_BIN_DIR && \
		$(PYTEST) $(SPREAD) $(NOT_LONG) $(wildcard tests/database) tests/embedded tests/migration tests/standby

lint: $(INSTALLED) ## Style, types and the direction of imports
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## Put the code into the one form
	$(BIN)/ruff check --fix-only --quiet $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

kill-storm: $(INSTALLED) ## 2000 leads while worker processes are killed all the time: is one lost or created twice?
	$(BIN)/python -m benchmarks.kill_storm

bench: $(INSTALLED) $(BENCH_INSTALLED) ## Measure beside Celery, Procrastinate, PgQueuer and a bare loop (under 10 minutes)
	$(BIN)/python -m benchmarks

bench-all: $(INSTALLED) $(BENCH_INSTALLED) ## The same with millions of leads and minutes of rate limit (a quarter of an hour)
	$(BIN)/python -m benchmarks --all

$(BENCH_INSTALLED): benchmarks/requirements.txt
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@touch $@

faults: $(INSTALLED) ## Each fault case with many seeds (SEEDS=20), and the other long tests
	FAULT_SEEDS=$(SEEDS) $(PYTEST) $(SPREAD) -m "faults or process or slow"

model: $(INSTALLED) ## States, claims, sweeps and look-ups by many seeds (SEEDS=100000)
	$(BIN)/python -m tests.model --seeds $(if $(filter command line,$(origin SEEDS)),$(SEEDS),100000)

soak: $(INSTALLED) ## Leads without end and a fault every 5 to 40 s (MINUTES=60, SEED=1)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED)

kill-9: $(INSTALLED) ## Kill -9 at random instants (LEADS=10000 KILLS=500, SEED=1)
	$(BIN)/python -m tests.soak.kill_9 --leads $(LEADS) --kills $(KILLS) --seed $(SEED)

hosts: $(INSTALLED) ## Three worker hosts, partitions and wrong clocks by seed; Linux and root (SEEDS=20)
	$(BIN)/python -m tests.hosts --seeds $(SEEDS)

standby: $(INSTALLED) ## A primary is killed under load, its synchronous standby promoted; Debian's Postgres 15 (SEEDS=20)
	$(BIN)/python -m tests.standby --seeds $(SEEDS)

patroni: $(INSTALLED) ## Two Postgres 15 under Patroni fail over under load; Debian's patroni and etcd-server
	$(BIN)/python -m tests.standby.patroni

upgrade: $(INSTALLED) ## Older versions from git beside this one while the database is migrated, by seed (SEEDS=20)
	$(BIN)/python -m tests.upgrade --seeds $(SEEDS)

outage: $(INSTALLED) ## Two minutes without Voicery under load (SECONDS=120)
	$(BIN)/python -m tests.soak.outage --seconds $(SECONDS)

fuzz: $(INSTALLED) ## Hostile answers, lists, files, messages, settings and console requests (EXAMPLES=5000 of each)
	FUZZ_EXAMPLES=$(EXAMPLES) $(PYTEST) tests/fuzz tests/console/test_fuzz.py

mutants: $(INSTALLED) ## Change the decision tables one thing at a time: does a test notice?
	$(BIN)/python scripts/mutants.py

locks: $(INSTALLED) $(TOOLS_INSTALLED) ## Renew locks/ after a change of pyproject.toml (UPGRADE=--upgrade: to the newest versions)
	$(COMPILE) --output-file locks/dev.txt --all-extras --group dev pyproject.toml
	$(COMPILE) --output-file locks/runtime.txt --constraint locks/dev.txt pyproject.toml
	$(COMPILE) --output-file locks/image.txt --constraint locks/dev.txt $(IMAGE_EXTRAS) pyproject.toml
	$(COMPILE) --output-file locks/sandbox.txt --constraint locks/dev.txt $(IMAGE_EXTRAS) --extra sandbox pyproject.toml
	$(COMPILE) --output-file locks/build.txt --constraint locks/dev.txt locks/build.in
	$(COMPILE) --output-file locks/docs.txt locks/docs.in
	$(COMPILE) --output-file locks/tools.txt locks/tools.in
	$(BIN)/python scripts/sbom.py

manifests: $(TOOLS_INSTALLED) ## Check deploy/ by Kubernetes' schemas, and by systemd-analyze where it is installed
	.venv-tools/bin/kubernetes-validate --quiet deploy/kubernetes/[!k]*.yaml
	tests/support/check-units deploy/systemd

site: $(DOCS_INSTALLED) ## The documentation as a site, in site/ (built offline)
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --quiet --builder dirhtml docs site

$(DOCS_INSTALLED): locks/docs.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement locks/docs.txt
	@touch $@

pictures: $(INSTALLED) ## Renew the pictures of the console in docs/images (needs Chromium)
	$(BIN)/python -m benchmarks.pictures

audit: $(TOOLS_INSTALLED) ## Ask the advisory database about every version in locks/
	.venv-tools/bin/python scripts/audit.py

$(TOOLS_INSTALLED): locks/tools.txt
	@test -x .venv-tools/bin/python || $(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement locks/tools.txt
	@touch $@

clean: ## Remove what was made: environment, caches, local stores
	rm -rf .venv .venv-bench .venv-docs .venv-tools site .dispatcher .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist mutants
	find $(wildcard $(SOURCES)) -name __pycache__ -prune -exec rm -rf {} +
