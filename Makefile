# What a machine needs: Python 3.11 or newer, git, gcc and make.
PYTHON ?= python3
BIN := .venv/bin
# Test files run side by side, on so many processes.
WORKERS ?= 2

.PHONY: demo bench-gpu test test-slow test-services test-gpu check lint format bench docs clean

demo: .venv/installed  ## the whole pipeline on a synthetic set, into runs/demo
	$(BIN)/pseudomask demo --out runs/demo

test: .venv/installed  ## what takes minutes on two cores
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not services and not gpu"

test-slow: .venv/installed  ## long runs: kills, resumes, the whole pipeline
	$(BIN)/pytest -m slow

test-services: .venv/installed  ## Prefect servers (SQLite, PostgreSQL), workers, kills, queues, a Dask cluster, an S3 server
	$(BIN)/pytest -m services

test-gpu: .venv/installed  ## needs a CUDA device
	$(BIN)/pytest -m gpu

bench-gpu:  ## needs a CUDA device, not Prefect: tests, kernels, every stage's throughput and memory; WORK= WEIGHTS=
	PYTHON=$(PYTHON) benchmarks/gpu.sh $(or $(WORK),runs/gpu) $(WEIGHTS)

check: lint test  ## what CI runs

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m kernels
	touch $@

bench: .venv/installed  ## the kernels' speed as ratios, into benchmarks/results
	$(BIN)/python -m benchmarks

docs: .venv/installed  ## the site, into site/
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv *.egg-info
