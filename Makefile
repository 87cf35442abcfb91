# Variables: PORT HOST MODEL (for serve), ARGS (for serve and bench-tree), SOAK_STEPS, USERS (for
# soak-users), PYTHON (to make the environment).
PYTHON ?= python3
PORT ?= 30000
HOST ?= 127.0.0.1
MODEL ?=
ARGS ?=
SOAK_STEPS ?= 200000
USERS ?= 200000

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TESTABLE := $(VENV)/testable
BENCHABLE := $(VENV)/benchable
DEVICE = $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
# What an environment with every target's packages gets; `pip install .` is free to choose.
CONSTRAINTS = -c constraints/$(DEVICE).txt
SOURCES := $(wildcard *.toml *.json *.py constraints/*.txt) $(shell find build_hooks patches python -type f ! -name '*.pyc')

.DEFAULT_GOAL := help
.PHONY: help serve demo install test test-fast fuzz soak soak-users bench-tree bench-detector \
	bench-side-channel bench-sharing bench-collusion bench-monitor bench-round bench-eviction bench-response-cache \
	bench-fairness bench-engines bench-levers pack-gpu test-gpu bench-gpu lint update-locks clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

serve: $(INSTALLED) ## Serve a model on PORT, to many users (PORT= HOST= MODEL= ARGS=)
	@exec $(BIN)/python scripts/serve.py --host $(HOST) --port $(PORT) $(if $(MODEL),--model $(MODEL)) -- $(ARGS)

demo: $(INSTALLED) ## Play a short conversation of three users and show what each finds cached
	@exec $(BIN)/python scripts/demo.py

install: $(INSTALLED) ## Make .venv and install the fork into it

test: $(TESTABLE) ## Run every test
	$(BIN)/python -m pytest -v -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" tests
	$(BIN)/python -m pytest -v -m alone tests

test-fast: $(TESTABLE) ## Run the tests that start no server, build nothing and are not slow
	$(BIN)/python -m pytest -v -n auto --dist worksteal -m "not (server or build or slow)" tests

fuzz: $(TESTABLE) ## Attack our own server with requests that nobody should send (30 minutes; ARGS=)
	$(BIN)/python fuzz/campaign.py $(ARGS)

soak: $(TESTABLE) ## Try the tree with SOAK_STEPS random steps, other ones each time
	cd tests && ../$(BIN)/python -m support.soak $(SOAK_STEPS)

soak-users: $(TESTABLE) ## Let USERS users come once; what do they leave? (9 minutes on 2 quiet cores)
	cd tests && ../$(BIN)/python -m support.one_off $(USERS)

bench-tree: $(BENCHABLE) ## Time our tree against upstream's; writes benchmarks/results (ARGS=--quick)
	$(BIN)/python benchmarks/tree.py $(ARGS)

bench-detector: $(BENCHABLE) ## Measure the detector: speed, what it finds, and what it costs requests
	$(BIN)/python benchmarks/detector.py

bench-side-channel: $(BENCHABLE) ## Attack each mode, and the response cache, as other users would (16 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/side_channel.py $(ARGS)

bench-sharing: $(BENCHABLE) ## Measure what keeping users apart costs (5 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/sharing.py $(ARGS)

bench-collusion: $(BENCHABLE) ## Attack promotion with colluding accounts, and say what its bound costs (8 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/collusion.py $(ARGS)

bench-monitor: $(BENCHABLE) ## Measure whom the probe monitor's thresholds hit, and when (1 minute)
	$(BIN)/python benchmarks/monitor.py $(ARGS)

bench-round: $(BENCHABLE) ## Time the scheduler's round under each policy (2 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/scheduling_round.py $(ARGS)

bench-eviction: $(BENCHABLE) ## Measure whom eviction policies serve (4 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/eviction.py $(ARGS)

bench-fairness: $(BENCHABLE) ## Measure who is served when users compete (13 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/fairness.py $(ARGS)

bench-engines: $(BENCHABLE) ## Compare with upstream and with Hugging Face's generate (9 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/engines.py $(ARGS)

bench-levers: $(BENCHABLE) ## Measure what single settings do to the time of answers (10 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/levers.py $(ARGS)

bench-response-cache: $(BENCHABLE) ## Time a repeated request: our cache, our proxy, LiteLLM's, the engine (4 minutes; ARGS=--quick)
	$(BIN)/python benchmarks/response_cache.py $(ARGS)

pack-gpu: $(INSTALLED) ## Collect what a machine with CUDA and no package index lacks (docs/gpu.md; ARGS=)
	$(BIN)/python scripts/pack_gpu.py $(ARGS)

test-gpu: $(TESTABLE) ## Try servers of all kinds on this machine's GPU (ARGS='--device cpu': what a CPU can do of it)
	$(BIN)/python -m pytest -v --timeout 1800 tests/gpu $(ARGS)

bench-gpu: $(BENCHABLE) ## Measure on this machine's GPU, in as many calls as you like (ARGS='--limit-minutes 10')
	$(BIN)/python benchmarks/gpu.py $(ARGS)

lint: $(TESTABLE) ## Check style, types, and the patches against upstream
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python patches/series.py verify

# Needs no install: the versions of now may be what keeps a new one from being made.
update-locks: | $(BIN)/python ## Find versions for constraints/ that fit together (ARGS=--upgrade)
	$(BIN)/python -m pip install uv hatchling packaging
	$(BIN)/python build_hooks/update_locks.py $(ARGS)

clean: ## Remove everything that was made here
	rm -rf $(VENV) .models build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install $(CONSTRAINTS) '.[$(DEVICE),client]'
	touch $@

# The fork is installed by now; pip takes the extra's list from what it finds.
$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install $(CONSTRAINTS) 'sglang[test]'
	touch $@

$(BENCHABLE): $(INSTALLED)
	$(BIN)/python -m pip install $(CONSTRAINTS) 'sglang[bench]'
	touch $@
