# FIRST: every verb installs what it needs into .venv first. `make help` lists them.
PYTHON ?= python3
PRESET ?= microworld
SEED ?= 0
BIN := .venv/bin
FIRST := $(BIN)/first

.DEFAULT_GOAL := help
.PHONY: help run test test-quick lab plan app audit fuzz lint bench notebooks settings-docs rates seeds real base-models real-base-models constraints clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed ## the whole of FIRST, end to end (PRESET=microworld SEED=0)
	@$(FIRST) run --preset $(PRESET) --seed $(SEED)

test: .venv/installed-test ## every test: two at a time, then those that need the machine to themselves
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -n 2 -m "not alone" && $(BIN)/python -m pytest -m alone

test-quick: .venv/installed-test ## the tests that take no more than a few seconds, for the work between
	@$(BIN)/ruff check . && $(BIN)/lint-imports --no-cache >/dev/null && $(BIN)/python -m pytest -n 2 -m "not alone and not slow"

lab: .venv/installed ## JupyterLab on the notebooks, on this machine only
	@$(FIRST) lab

plan: .venv/installed ## what a run would take, before anything is run (PRESET=...)
	@$(FIRST) plan --preset $(PRESET)

app: .venv/installed-app ## notebook 04 as an app, code hidden, on this machine only
	@JUPYTER_PATH=firstlib/explorer $(BIN)/voila notebooks/04_temperature.ipynb \
		--Voila.ip=127.0.0.1 --template=local --strip_sources=True

audit: .venv/installed-audit ## known vulnerabilities in the pinned packages, where a list of them can be reached
	@$(BIN)/python .ci/audit.py constraints.txt

film: .venv/installed-test ## the README's moving picture, of a finished run (REPORT=runs/microworld/seed-0/report.html)
	@PYTHONPATH=tests $(BIN)/python -m browser.film $(REPORT)

fuzz: .venv/installed-test ## bytes without end into what reads presets and responses, a minute each
	@mkdir -p runs; for target in presets responses; do \
	$(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=60 -artifact_prefix=runs/ || exit 1; done

lint: .venv/installed-test ## put code and notebooks into the common form
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

rates: .venv/installed ## validation accuracy at several learning rates, which chose the preset's
	@$(BIN)/python scripts/choose_learning_rate.py

seeds: .venv/installed ## results over three seeds, written into README and docs/findings.md
	@$(BIN)/python scripts/update_readme.py

real: .venv/installed ## the table of docs/findings.md on real data in FIRST_REAL_DATA (after real-base-models; half an hour)
	@$(BIN)/python scripts/update_readme.py real

bench: .venv-bench/installed ## ours against the peers' released packages (15 minutes)
	@.venv-bench/bin/python -m benchmarks

notebooks: .venv/installed ## run the committed notebooks and figures anew
	@$(FIRST) run
	cp runs/microworld/seed-0/notebooks/[0-9]*.ipynb notebooks/
	cp runs/microworld/seed-0/figures/*.png runs/microworld/seed-0/figures/*.json figures/

base-models: .venv/installed ## pretrain the microworld's base models, one on each of two cores (about 15 minutes)
	@$(BIN)/python scripts/pretrain_microworld.py student & student=$$!; \
	$(BIN)/python scripts/pretrain_microworld.py teacher && wait $$student

real-base-models: .venv/installed ## pretrain two small Llamas on the real text in FIRST_REAL_DATA (about 40 minutes)
	@$(BIN)/python scripts/pretrain_small_llama.py student & student=$$!; \
	$(BIN)/python scripts/pretrain_small_llama.py teacher && wait $$student

settings-docs: .venv/installed ## write docs/settings.md and the presets' JSON schema
	@$(BIN)/python scripts/write_settings_docs.py

constraints: .venv/installed-test ## write down the versions that are installed now
	@$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean: ## remove runs; the environment and the models stay
	rm -rf runs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-audit: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	@touch $@

.venv/installed-app: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app]'
	@touch $@

.venv-bench/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/without-dependencies.txt
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@
