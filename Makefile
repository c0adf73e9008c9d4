# Every target first installs what it needs into .venv. `make help` lists the targets.
PYTHON ?= python3
PRESET ?= microworld
SEED ?= 0
JOBS ?= 1
BIN := .venv/bin
FIRST := $(BIN)/first
# All cores compile what was installed, where pip would use one. Without it every process would compile the modules that
# it imports, wherever PYTHONDONTWRITEBYTECODE is set, as it is in many containers.
define install
$(1)/bin/pip install --quiet --disable-pip-version-check --no-compile $(2)
@$(1)/bin/python -m compileall -q -j 0 $(1)/lib firstlib >/dev/null || true # some files are for another Python
endef

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-quick lab plan app vulnerabilities mutants fuzz lint bench bench-real notebooks settings-docs choose-settings choose-adapter seeds beyond map pretrained real base-models real-base-models constraints clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed ## run FIRST end to end (PRESET=microworld SEED=0)
	@$(FIRST) run --preset $(PRESET) --seed $(SEED)

test: .venv/installed-test ## the tests, two at a time, then those that measure time; `make test-long` has the rest
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -n 2 -m "not alone and not long" && $(BIN)/python -m pytest -m alone tests/explorer

test-long: .venv/installed-test ## the tests that take minutes: a run killed twenty times, and a hundred times the memory
	@$(BIN)/python -m pytest -n 2 -m long tests/faults

test-quick: .venv/installed-test ## run only the tests that take a few seconds or less
	@$(BIN)/ruff check . && $(BIN)/lint-imports --no-cache >/dev/null && $(BIN)/python -m pytest -n 2 -m "not alone and not slow"

lab: .venv/installed ## open the notebooks in JupyterLab, on this machine only
	@$(FIRST) lab

plan: .venv/installed ## estimate what a run would take, without running anything (PRESET=...)
	@$(FIRST) plan --preset $(PRESET)

app: .venv/installed-app ## serve notebook 04 as an app without its code, on this machine only
	@JUPYTER_PATH=firstlib/explorer $(BIN)/voila notebooks/04_temperature.ipynb \
		--Voila.ip=127.0.0.1 --template=local --strip_sources=True

vulnerabilities: .venv/installed-vulnerabilities ## look up the pinned packages in a list of known vulnerabilities (needs a reachable list)
	@$(BIN)/python .ci/vulnerabilities.py constraints.txt

film: .venv/installed-test ## record the README's animation from a finished run (REPORT=runs/microworld/seed-0/report.html)
	@PYTHONPATH=tests $(BIN)/python -m browser.film $(REPORT)

mutants: .venv/installed-mutants ## change the code that computes numbers in small ways, and see which changes no test notices (hours; resumable)
	@OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/mutmut run --max-children $(JOBS); $(BIN)/python -m scripts.mutants

fuzz: .venv/installed-test ## fuzz the readers of presets and responses, one minute each
	@mkdir -p runs; for target in presets responses; do \
	$(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=60 -artifact_prefix=runs/ || exit 1; done

lint: .venv/installed-test ## fix and format code and notebooks, then check types and imports
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

seeds: .venv/installed ## compute the table over ten seeds, and write it into README and docs (hours; resumable; JOBS=1)
	@$(BIN)/python -m scripts.study seeds spread --jobs $(JOBS)
	@$(BIN)/python -m scripts.update_readme

beyond: .venv/installed ## compute the methods beyond the paper over five seeds (hours; resumable; JOBS=1)
	@$(BIN)/python -m scripts.study beyond out-of-domain exact --jobs $(JOBS)
	@$(BIN)/python -m scripts.update_readme

map: .venv/installed ## compute the map of when FIRST helps (hours; resumable; JOBS=1)
	@$(BIN)/python -m scripts.study map --jobs $(JOBS)
	@$(BIN)/python -m scripts.update_readme

pretrained: .venv/installed ## the table on real pretrained weights, from FIRST_PRETRAINED and FIRST_REAL_DATA (days; resumable; docs/real-models.md)
	@$(BIN)/python -m scripts.pretrained
	@$(BIN)/python -m scripts.study pretrained pretrained-seeds --jobs $(JOBS)
	@$(BIN)/python -m scripts.update_readme

real: .venv/installed ## compute the real-data table of docs/findings.md from FIRST_REAL_DATA (after real-base-models; half an hour)
	@$(BIN)/python -m scripts.update_readme real

bench: .venv-bench/installed ## benchmark against the peers' released packages (15 minutes)
	@.venv-bench/bin/python -m benchmarks

bench-real: .venv-bench/installed ## benchmark training steps of a real model's shape against the peers (half an hour)
	@.venv-bench/bin/python -m benchmarks training preambles micro_batches

notebooks: .venv/installed ## rerun the committed notebooks and figures
	@$(FIRST) run
	cp runs/microworld/seed-0/notebooks/[0-9]*.ipynb notebooks/
	cp runs/microworld/seed-0/figures/*.png runs/microworld/seed-0/figures/*.json figures/

base-models: .venv/installed ## pretrain the microworld's base models, one on each of two cores (about 15 minutes)
	@$(BIN)/python -m scripts.pretrain_microworld student & student=$$!; \
	$(BIN)/python -m scripts.pretrain_microworld teacher && wait $$student

real-base-models: .venv/installed ## pretrain two small Llamas on the real text in FIRST_REAL_DATA (about 40 minutes)
	@$(BIN)/python -m scripts.pretrain_small_llama student & student=$$!; \
	$(BIN)/python -m scripts.pretrain_small_llama teacher && wait $$student

choose-settings: .venv/installed ## the baselines' calibration over epochs, questions and rates, by docs/protocol.md (resumable; hours)
	@$(BIN)/python -m scripts.choose_settings

choose-adapter: .venv/installed ## the rate of LoRA and QLoRA by fine-tuning's accuracy, by docs/protocol.md (resumable; half an hour)
	@$(BIN)/python -m scripts.choose_adapter

settings-docs: .venv/installed ## generate docs/settings.md and the presets' JSON schema
	@$(BIN)/python -m scripts.write_settings_docs

constraints: .venv/installed-test ## write the installed versions to constraints.txt
	@$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean: ## delete runs; keep the environment and the models
	rm -rf runs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(call install,.venv,-c constraints.txt -e .)
	@touch $@

.venv/installed-vulnerabilities: .venv/installed
	$(call install,.venv,-c constraints.txt -e '.[vulnerabilities]')
	@touch $@

.venv/installed-mutants: .venv/installed-test
	$(call install,.venv,-c constraints.txt -e '.[mutants]')
	@touch $@

.venv/installed-app: .venv/installed
	$(call install,.venv,-c constraints.txt -e '.[app]')
	@touch $@

.venv-bench/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(call install,.venv-bench,-c constraints.txt -e '.[bench]')
	$(call install,.venv-bench,--no-deps -r benchmarks/without-dependencies.txt)
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt # all that `.venv/installed` has, too: a new checkout installs once
	$(PYTHON) -m venv .venv
	$(call install,.venv,-c constraints.txt -e '.[test]')
	@touch .venv/installed $@
