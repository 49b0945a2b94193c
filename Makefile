# Everything a fresh machine with Python and make needs.
#   make demo    learn from unlabeled images and write a report
#   make test    the quick tests: units, the contract of every method, short runs
#   make test-all  all tests: studies in miniature, compiled networks, several processes as well
#   make test-oldest  tests with the oldest supported versions of the dependencies, in .venv-oldest
#   make smoke   wheel and sdist, each installed and used in a bare environment
#   make lectures   the experiments of the lectures, with a page of figures and claims
#   make check   lint and types
#   make notebooks  the notebooks of the lectures as .ipynb, from their texts
#   make docs    the site, in build/site; a warning is an error
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed-base
STAMP := $(VENV)/.installed

.PHONY: demo lectures test test-all test-oldest smoke check notebooks docs bench clean

demo: $(BASE)
	$(BIN)/unlabeled demo

lectures: $(BASE)
	$(BIN)/unlabeled study lectures --resume

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow" --timeout 300

test-all: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Lower bounds of what is always installed, whose own warnings are no errors here.
OLDEST_TESTS ?= tests/unit/test_core.py tests/unit/test_modality.py tests/unit/runs/test_run.py \
	tests/unit/runs/test_hub.py tests/unit/objectives tests/unit/augmentations
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -o filterwarnings=default $(OLDEST_TESTS) -m "not slow" --timeout 300

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q 'uv>=0.5'
	.venv-oldest/bin/uv pip install -q --python .venv-oldest/bin/python --resolution lowest-direct \
		-e . 'pytest>=8' 'pytest-timeout>=2.3' 'pytest-xdist>=3.5' 'beartype>=0.18'
	touch $@

smoke:
	$(PYTHON) bench/smoke.py

check: $(STAMP)
	$(BIN)/ruff check src tests bench docs/conf.py docs/_ext
	$(BIN)/ruff format --check src tests bench docs/conf.py docs/_ext
	$(BIN)/mypy

notebooks: $(STAMP)
	$(BIN)/python bench/ipynb.py
	$(BIN)/python bench/readme.py

docs: $(VENV)/.docs-installed docs/_static/views/.drawn
	$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/site
	@echo "Open build/site/index.html in a browser."

docs/_static/views/.drawn: bench/method_views.py $(wildcard src/unlabeled/methods/*.py) | $(STAMP)
	$(BIN)/python bench/method_views.py
	touch $@

$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

# The peers get an environment of their own: torchvision without its compiled part breaks others.
bench: .venv-bench/.installed
	.venv-bench/bin/python bench/simclr_step.py
	.venv-bench/bin/python bench/simclr_step.py --encoder lenet \
		--out results/bench_simclr_step_lenet.json
	.venv-bench/bin/python bench/objectives.py
	.venv-bench/bin/python bench/augmentation.py
	.venv-bench/bin/python bench/evaluation.py
	.venv-bench/bin/python bench/time_to.py
	.venv-bench/bin/python bench/metric_learning.py
	.venv-bench/bin/python bench/page.py

.venv-bench/.installed: pyproject.toml constraints.txt bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q -c constraints.txt -e .
	.venv-bench/bin/python -m pip install -q --no-deps -r bench/requirements.txt
	touch $@

# What a user needs; then what a contributor needs, too.
$(BASE): pyproject.toml constraints.txt
	@echo "Installing into $(VENV); PyTorch is a large download."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(STAMP): $(BASE)
	@echo "Installing what contributors need."
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .venv-oldest build/site .mypy_cache .pytest_cache .ruff_cache
