# Everything a fresh machine with Python and make needs.
#   make demo    learn from unlabeled images and open the report
#   make test    the quick tests: units, the contract of every method, short runs
#   make test-all  all tests: studies in miniature, compiled networks, several processes as well
#   make lectures   the experiments of the lectures, with a page of figures and claims
#   make check   lint and types
#   make notebooks  the notebooks of the lectures as .ipynb, from their texts
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo lectures test test-all check notebooks bench clean

demo: $(STAMP)
	$(BIN)/unlabeled demo

lectures: $(STAMP)
	$(BIN)/unlabeled study lectures --resume

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy

notebooks: $(STAMP)
	$(BIN)/python bench/ipynb.py
	$(BIN)/python bench/readme.py

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

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .venv-bench .mypy_cache .pytest_cache .ruff_cache
