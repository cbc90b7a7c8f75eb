# Everything that a developer, CI and the demo do, by name. `make` alone lists it.
# The locks of the model environments are for 3.11: torch has its CPU build for others on another index only.
PYTHON ?= $(shell command -v python3.11 || echo python3)
ONCE ?=
REAL ?=
BIN := .venv/bin
UNIT := not slow and not browser and not prometheus and not postgresql

export PYTHON
# Without bytecode every process of every test compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z%-]*:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environments: each is what its lock says, and is left alone when it already is ---------------------------------

.PHONY: setup
setup: ## make .venv: the gateway, the detector, the console and the checks
	@requirements/install.sh .venv requirements/dev.txt
	@wanted=$$(cat pyproject.toml requirements/gateway.in | sha256sum | cut -d ' ' -f 1); \
	if [ "$$(cat .venv/.project 2>/dev/null)" != "$$wanted" ]; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
			--config-settings editable_mode=compat -e . && echo "$$wanted" > .venv/.project; \
	fi

.PHONY: setup-vllm
setup-vllm: ## make .venv-vllm: serves the models
	@requirements/install.sh .venv-vllm requirements/vllm.txt

.PHONY: setup-distiller
setup-distiller: ## make .venv-distiller: trains students
	@requirements/install.sh .venv-distiller requirements/distiller.txt

.PHONY: setup-bench
setup-bench: ## make .venv-bench: old and foreign SDKs, which clients are tested with
	@requirements/install.sh .venv-bench requirements/bench.txt

.PHONY: setup-peers
setup-peers: ## make .venv-peers and Portkey's folder: what bench-overhead and bench-streaming measure beside the gateway
	@requirements/install.sh .venv-peers requirements/peers.txt
	@if command -v npm >/dev/null; then npm ci --silent --ignore-scripts --prefix benchmarks/peers; \
	else echo "Portkey is left out: it needs Node"; fi

.PHONY: setup-docs
setup-docs: ## make .venv-docs: makes a site of docs/
	@requirements/install.sh .venv-docs requirements/docs.txt

.PHONY: setup-models
setup-models: setup-distiller ## make models/: the demo's base model and its teacher
	@.venv-distiller/bin/python -m demo.models

.PHONY: setup-house
setup-house: ## what a house with models needs, side by side
	@$(MAKE) --no-print-directory -j3 setup setup-vllm setup-models

.PHONY: setup-all
setup-all: ## what the tests need, side by side
	@$(MAKE) --no-print-directory -j4 setup setup-vllm setup-models setup-bench

# --- the demo --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: ## watch the whole house at work, from nothing (ONCE=1: stop it at the end)
	@started=$$(date +%s); $(MAKE) --no-print-directory setup-house && \
	exec $(BIN)/python -m demo --setup-seconds $$(($$(date +%s) - started)) $(if $(ONCE),--once)

.PHONY: demo-teacher
demo-teacher: setup-distiller ## tune the demo's teacher again (its adapter is shipped)
	.venv-distiller/bin/python -m demo.models --base-only
	.venv-distiller/bin/python -m demo.teacher

# --- checks and tests ------------------------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: setup-docs ## make build/site of docs/; dead links are errors
	.venv-docs/bin/zensical build --clean --strict

.PHONY: check
check: lint ## lint and the unit tests: about a minute on two idle cores, no models
	$(BIN)/pytest -q -m "$(UNIT)" -n 3 --dist loadfile --hypothesis-profile quick

.PHONY: test
test: setup-all ## every test, with real models, training, browser and Prometheus
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: bench-endurance
bench-endurance: setup ## half an hour under load while processes are killed: nothing lost, nothing doubled, memory flat
	$(BIN)/python -m benchmarks.endurance

.PHONY: score
score: setup ## score a traffic file: FILE=….jsonl [ACCOUNTS=….jsonl] [DAILY=1]; JSON on stdout
	@test -n "$(FILE)" || { echo "FILE is missing: make score FILE=traffic.jsonl [ACCOUNTS=accounts.jsonl] [DAILY=1]" >&2; exit 2; }
	@house=$$(mktemp -d) && trap 'rm -rf "$$house"' EXIT && \
	printf 'data_dir = "%s/data"\n[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:9"]\n' "$$house" > $$house/spiritsafe.toml && \
	if [ -n "$(ACCOUNTS)" ]; then $(BIN)/spiritsafe accounts import "$(ACCOUNTS)" --config $$house/spiritsafe.toml >&2; fi && \
	$(BIN)/spiritsafe traffic import "$(FILE)" --config $$house/spiritsafe.toml >&2 && \
	$(BIN)/spiritsafe detector score --json $(if $(DAILY),--daily) --config $$house/spiritsafe.toml

.PHONY: bench-detection
bench-detection: setup ## measure the detector: [DATA=folder of corpora] [QUICK=1]; report in build/evaluation/
	$(BIN)/spiritsafe detector evaluate $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

.PHONY: bench-detector-cost
bench-detector-cost: setup ## CPU a request and bytes an account of the detector, at two sizes
	$(BIN)/python -m benchmarks.detector_cost

.PHONY: bench-overhead
bench-overhead: setup setup-peers ## CPU of requests and of streams beside the peers' (needs nginx)
	$(BIN)/python -m benchmarks.overhead

.PHONY: bench-ledger
bench-ledger: setup ## spool, ingestion and lake, beside SQLite and PostgreSQL (ROWS=1000000: a smaller lake)
	$(BIN)/python -m benchmarks.ledger $(if $(ROWS),--rows $(ROWS))

.PHONY: bench-crash
bench-crash: setup ## kill gateway, ingester and maintenance under load, and count what is left
	$(BIN)/python -m benchmarks.crash

.PHONY: bench-streaming
bench-streaming: setup setup-peers $(if $(REAL),setup-vllm setup-models) ## what the gateway adds to streams, beside the peers (needs nginx; REAL=1: before vLLM)
	$(BIN)/python -m benchmarks.streaming $(if $(REAL),--real)

.PHONY: bench-gate
bench-gate: setup ## how often the gate lets a candidate through that is worse by exactly the margin
	$(BIN)/python -m benchmarks.gate

.PHONY: bench-pages
bench-pages: setup ## the console's pages beside 50,000 open alerts and a million accounts; JSON as the last line
	$(BIN)/python -m benchmarks.pages

.PHONY: bench-scrubbing
bench-scrubbing: setup ## what the scrubber finds of personal data and secrets, and what it takes for them
	$(BIN)/python -m benchmarks.scrubbing

bench-%: setup-all ## run a benchmark: bench-NAME runs benchmarks/NAME.py
	$(BIN)/python -m benchmarks.$(subst -,_,$*)

# --- upkeep ----------------------------------------------------------------------------------------------------------

LOCK := CUSTOM_COMPILE_COMMAND="make lock" ../.venv-lock/bin/pip-compile --quiet --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --generate-hashes --allow-unsafe

.PHONY: lock
lock: ## lock gateway.txt, dev.txt, image.txt, bench.txt, peers.txt and docs.txt anew (UPGRADE=--upgrade: newest releases)
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet pip-tools
	cd requirements && $(LOCK) $(UPGRADE) -o gateway.txt gateway.in && $(LOCK) $(UPGRADE) -o dev.txt dev.in && $(LOCK) $(UPGRADE) -o image.txt image.in && \
		$(LOCK) $(UPGRADE) -o bench.txt bench.in && $(LOCK) $(UPGRADE) -o peers.txt peers.in && \
		$(LOCK) $(UPGRADE) -o docs.txt docs.in

.PHONY: clean
clean: ## remove environments, models and caches, never a house's data
	rm -rf .venv .venv-vllm .venv-distiller .venv-bench .venv-peers .venv-docs .venv-lock benchmarks/peers/node_modules models build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
