# One command to bring everything up, one to test everything. Needs make and Python 3.11 or newer.
.DEFAULT_GOAL := help
.PHONY: help up down reset status plane-away test test-fast fuzz chaos faults simulate simulate-check lint format bench bench-gateway bench-placement bench-scaling openapi lock test-long

ENGINE ?=
VENV := .venv
BIN := $(VENV)/bin
# Where the machine has a certificate store, uv trusts what it trusts (a company's own authority, say).
export UV_SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),true,false)
# A run of the tests starts hundreds of processes: where the environment forbids it, each would compile all code anew.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

up: environment  ## Start everything and answer a chat (ENGINE=simulator: without vLLM)
	@$(BIN)/meridian up $(if $(ENGINE),--engine $(ENGINE))

down:  ## End all that `make up` started
	@if [ -x $(BIN)/meridian ]; then $(BIN)/meridian down; else echo "Meridian was not up."; fi

status: environment  ## Show the parts
	@$(BIN)/meridian status

reset:  ## End everything and forget all state (var/)
	@if [ -x $(BIN)/meridian ]; then $(BIN)/meridian reset --yes; else echo "There is nothing to forget."; fi

test: environment browser engines  ## Run every test
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m "not e2e"
	@$(BIN)/python -m pytest -n 0 -m e2e

test-fast: environment  ## Run pure rooms, services and API: what starts no servers (a minute at most)
	@$(BIN)/python -m pytest -n 2 -m "not slow and not e2e" \
		tests/apps tests/controlplane tests/house tests/workloadplane

test-long: environment engines  ## Try properties on many examples, and break real vLLM in every way (20 minutes)
	@MERIDIAN_LONG_TESTS=1 $(BIN)/python -m pytest -n 2 \
		tests/controlplane tests/apps/placements/test_changes.py tests/apps/test_schemathesis.py \
		tests/workloadplane/agent/test_reconcile.py
	@MERIDIAN_LONG_TESTS=1 $(BIN)/python -m pytest -n 0 -m e2e \
		tests/workloadplane/engines/test_resume_for_real.py tests/workloadplane/engines/test_faults_for_real.py

FUZZ_RUNS ?= 10000000
fuzz: environment  ## Try bytes that nobody thought of on the gateway (FUZZ_RUNS=10000000; a quarter of an hour)
	@$(BIN)/python -m tests.fuzz all -runs=$(FUZZ_RUNS)

CHAOS_S ?= 120
chaos: environment  ## Kill gateways, replicas and the agent at random under load (CHAOS_S=120)
	@$(BIN)/python -m tests.faults $(CHAOS_S)

FAULTS ?=
faults: environment  ## Break parts of a running system under load, and tell what clients notice (FAULTS=--quick; twenty minutes)
	@$(BIN)/python -m tests.faults.matrix $(FAULTS)

SCHEDULES ?= 100000
simulate: environment  ## Play random faults among regions on virtual time (SCHEDULES=100000; some minutes)
	@$(BIN)/python -m tests.faults.regions $(SCHEDULES)

simulate-check: environment  ## Hold the simulator against real processes under the same requests (fifteen minutes)
	@$(BIN)/python -m tests.benchmarks.simulation_check

AWAY_S ?= 300
plane-away: environment  ## Take the control plane from a running system while clients ask (AWAY_S=300)
	@MERIDIAN_AWAY_S=$(AWAY_S) $(BIN)/python -m pytest -n 0 -m e2e tests/e2e/test_faults.py -k away

lint: environment  ## Check style, types, imports and Django's settings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@sh infra/embedded/check_deploy.sh

format: environment  ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: environment  ## Measure (the table in docs/performance.md)
	@$(BIN)/python -m tests.benchmarks

bench-gateway: environment  ## Measure the gateway beside its peers (BENCH=--quick: a short look)
	@$(BIN)/python -m tests.benchmarks.gateway $(BENCH)

bench-placement: environment  ## Measure placement beside other policies (BENCH=--quick: a few minutes)
	@$(BIN)/python -m tests.benchmarks.placement $(BENCH)

bench-scaling: environment  ## Measure scaling beside other policies (BENCH=--quick: a few minutes)
	@$(BIN)/python -m tests.benchmarks.scaling $(BENCH)

openapi: environment  ## Write docs/openapi.yaml from the code
	@DJANGO_SETTINGS_MODULE=controlplane.settings.test $(BIN)/python manage.py spectacular \
		--validate --fail-on-warn --file docs/openapi.yaml

lock: environment  ## Pin anew what the project and its engines install
	@sh infra/embedded/lock.sh

.PHONY: environment browser engines
environment:
	@sh infra/embedded/environment.sh

browser:
	@$(BIN)/python -m infra.embedded.browser

engines:
	@$(BIN)/python -m infra.embedded.vllm_environment
