# Two commands matter: `make rollout` and `make test`. Both set up what is missing first.
.DEFAULT_GOAL := help
.PHONY: help setup compiled peers rollout canary test stages unit lint bench soak recovery masked chaos status up down clean

FAULT ?=
FAULTS ?=
SIGN ?=
MARKET ?= generated
PLAN ?=
KILLS ?=
CELLS ?=
HOURS ?=
STYLE ?= calm
PARTS ?=
STRICT ?=
BIN := .venv/bin
# The bot as C extensions, before its sources. No current directory: it would come first.
COMPILED = PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/artifacts/compiled:$(CURDIR)" $(BIN)/python
RECOVERY = $(BIN)/python -m tests.bench.recovery $(if $(KILLS),--kills "$(KILLS)",--table docs/recovery.md)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## what is missing on this machine (once; offline the second time)
	@infra/setup.sh

rollout: setup ## all five stages, shadow to size, in minutes: [FAULT=kind@stage] [SIGN=me]
	@$(BIN)/rollout demo $(if $(PLAN),--plan "$(PLAN)") --market "$(MARKET)" $(if $(FAULT),--fault "$(FAULT)") $(if $(FAULTS),--faults "$(FAULTS)") $(if $(SIGN),--sign "$(SIGN)")

canary: setup ## the canary alone: [FAULT=crash|crossing|loss|orphan|stall|blind] [FAULTS=FILE] [SIGN=me] [MARKET=recorded:PATH]
	@$(BIN)/rollout demo --stage canary $(if $(PLAN),--plan "$(PLAN)") --market "$(MARKET)" $(if $(FAULT),--fault "$(FAULT)") $(if $(FAULTS),--faults "$(FAULTS)") $(if $(SIGN),--sign "$(SIGN)")

up: setup ## the embedded stack alone
	@$(BIN)/rollout up $(if $(PLAN),--plan "$(PLAN)") --market "$(MARKET)"

down: ## stop trading with proof, then everything that runs
	@if [ -x $(BIN)/rollout ]; then $(BIN)/rollout down; fi

test: ## all set-up and the whole suite
	@infra/setup.sh browser
	@mkdir -p artifacts
	@$(BIN)/python -m pytest -n 3 --dist loadscope --junitxml=artifacts/tests.xml

stages: setup ## the whole road once more, told and checked line by line: minutes of real time
	@$(BIN)/python -m pytest tests/flows/all_stages.py

unit: setup ## the unit tests: pure, in seconds
	@$(BIN)/python -m pytest -q tests/unit

lint: setup ## ruff, mypy --strict, the floor plan
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench soak: PROFILE = 1
compiled: ## the bot as C extensions in artifacts/compiled: the same decisions to the byte, in less time [PROFILE=1]
	@infra/setup.sh compiler
	@$(BIN)/python infra/compile.py $(if $(PROFILE),--profile)

peers: compiled # the engines of others, in an environment of their own (about 1.2 GB the first time)
	@cd tests/bench/peers && UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 \
		"$(CURDIR)/.bootstrap/bin/uv" sync --locked --quiet

bench: peers ## freezes, rollbacks, edges, both lanes against nautilus and hftbacktest, symbols, rollouts: docs/bench.md [STRICT=1]
	@$(BIN)/python -m tests.bench.page $(if $(PARTS),--parts "$(PARTS)" $(if $(PAGE),--page "$(PAGE)"),--page docs/bench.md) $(if $(STRICT),--strict)

soak: compiled ## hours: plans of faults, garbled messages, kills, two simulated days [HOURS=0.5] [STYLE=heavy] [KILLS=10]
	@failed=; \
	$(BIN)/python -m tests.bench.seeds || failed="$$failed seeds"; \
	$(BIN)/python -m tests.support.decoder_fuzz || failed="$$failed decoder_fuzz"; \
	$(RECOVERY) || failed="$$failed recovery"; \
	$(COMPILED) -m tests.bench.soak --style "$(STYLE)" $(if $(HOURS),--hours "$(HOURS)",--table docs/soak.md) \
		|| failed="$$failed soak"; \
	if [ -n "$$failed" ]; then echo "make soak: failed:$$failed" >&2; exit 1; fi

recovery: setup ## the bot killed 100 times, and 100 with its journal in Redis: docs/recovery.md [KILLS=10]
	@$(RECOVERY)

masked: setup ## every secret of the stack, looked for in all that it has left or shows
	@$(BIN)/python -m tests.acceptance.secrets

chaos: setup ## every process killed at every step: docs/chaos.md; goes on where it was stopped [CELLS=guard,bot@watch]
	@$(BIN)/python -m tests.chaos --table docs/chaos.md $(if $(CELLS),--cells "$(CELLS)")

status: ## docs/status.md from the last whole run of the tests
	@$(BIN)/python -m tests.report.status artifacts/tests.xml

clean: down ## removes environment, caches and the state folder, evidence included
	@rm -rf .venv .bootstrap .slipway artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
