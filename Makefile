# What people type. Each verb is a few lines here or a script in ci/ that any CI system can call as well.
PYTHON ?= python3
PORT ?= 3000
ADDRESS ?=
UI_PORT ?= 5000
ARGS ?=

BIN := .venv/bin
HOME_DIR := $(or $(OCR_OPS_HOME),.ocr-ops)
TRACKING_URI := $(or $(MLFLOW_TRACKING_URI),sqlite:///$(abspath $(HOME_DIR))/mlflow.db)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup setup-release setup-test release test lint types rules serve ui bench figures cost audit outputs format lock soak clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-9s %s\n", $$1, $$2 }'
	@echo "Variables: PYTHON=$(PYTHON) PORT=$(PORT) UI_PORT=$(UI_PORT) ARGS='--more-options'"

setup: setup-release ## what the toolkit needs: .venv, fonts

setup-release:
	@ci/setup release

setup-test:
	@ci/setup test

release: setup-release ## from the training outputs in models/ to a promoted release
	@ci/release $(ARGS)

test: setup-test ## lint, types, import contracts and every test but the slow ones
	@ci/lint
	@ci/types
	@ci/test $(ARGS)

soak: setup-test ## the slow tests
	@ci/soak $(ARGS)

lint: setup-test ## style, formatting and the direction of imports
	@ci/lint

types: setup-test ## mypy, strictly
	@ci/types

rules: setup-test ## the committed alert rules and dashboards are those monitoring/slo.toml asks for
	@ci/rules $(ARGS)

serve: setup-release ## the champion, on PORT; on other addresses than this machine's with ADDRESS=0.0.0.0, and a key
	@$(BIN)/bentoml serve . --port $(PORT) $(if $(ADDRESS),--host $(ADDRESS)) $(ARGS)

ui: setup-release ## MLflow's UI on the embedded store, on UI_PORT
	@$(BIN)/mlflow server --host 127.0.0.1 --port $(UI_PORT) --workers 1 --backend-store-uri $(TRACKING_URI) \
		--artifacts-destination $(abspath $(HOME_DIR))/mlartifacts $(ARGS)

bench: setup-release ## measure the champion on this machine
	@$(BIN)/ocr-ops bench $(ARGS)

figures: setup-test ## measure the champion beside its peers on DATA, into docs/benchmark.md
	@ci/bench $(DATA) $(ARGS)

cost: setup-test ## what a page costs by stage: make cost DOCUMENTS="a.jpg b.pdf"
	@ci/cost $(or $(RELEASE),$(HOME_DIR)/champion) $(DOCUMENTS)

format: setup-test ## rewrite the code as lint wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

audit: setup-test ## known vulnerabilities in what the locks install
	@ci/audit $(ARGS)

outputs: setup-test ## what other people's tools say of our hOCR and ALTO
	@ci/outputs $(ARGS)

lock: setup-release ## resolve pyproject.toml anew into requirements.lock
	@ci/lock

clean: ## forget .venv and caches; .ocr-ops stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
