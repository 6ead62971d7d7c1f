# Every target sets itself up: tools/bootstrap.py makes .venv on the first call and is instant afterwards.
#   make demo PYTHON3=python3.12   make .venv with another Python
#   make test PYTHON=python3       use an environment of your own; nothing is installed
# What fails here fails in CI: .ci/run calls `make check`, `make test` and, with chromium, `make browser`.

PYTHON3 ?= python3
ifeq ($(origin PYTHON),command line)
export PYTHONPATH := $(CURDIR)/src
else
PYTHON := .venv/bin/python
SET_UP := set-up
SET_UP_DEV := set-up-dev
endif

# One thread a process: two workers then share two cores without fighting, and sums repeat bit for bit. Bytecode is kept,
# whatever the machine's settings say: the tests start many processes, and compiling plaudit costs each of them a second.
PYTEST := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(PYTHON) -m pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check format slow gpu browser postgres vllm bench mutants lock set-up set-up-dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(SET_UP) ## the whole of RLHF on a tiny world, with its report: three and a half minutes on two quiet cores, no download of data
	@$(PYTHON) -m plaudit demo $(ARGS)

test: $(SET_UP_DEV) ## the default tests, in random order, without network (ARGS="-k kl" to choose)
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal --durations 10 --durations-min 5 --ignore tests/architecture $(ARGS)

check: $(SET_UP_DEV) ## format, lint, import contracts, types, and the rules of the house in tests/architecture
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
	@$(PYTHON) -m pyrefly check --python-interpreter-path "$$(command -v $(PYTHON))"
	@$(PYTEST) -q -n $(WORKERS) --dist loadfile tests/architecture

format: $(SET_UP_DEV) ## rewrite the files so that `make check` is content; docs/modules.md and docs/notes.md anew
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON3) tools/docstrings.py

slow: $(SET_UP_DEV) ## the tests that take minutes: learning curves, long runs, every command of the documentation
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal -m "slow and not gpu and not browser and not postgres and not vllm" $(ARGS)

gpu: $(SET_UP_DEV) ## the tests that need an NVIDIA GPU
	@$(PYTEST) -q -m gpu $(ARGS)

browser: $(SET_UP_DEV) ## the tests that drive a real browser (Debian: apt install chromium)
	@$(PYTEST) -q -m browser $(ARGS)

postgres: $(SET_UP_DEV) ## the tests that start a PostgreSQL server of their own (Debian: apt install postgresql)
	@$(PYTEST) -q -m postgres $(ARGS)

vllm: $(SET_UP_DEV) ## the tests that start a real vLLM server, in the environment of the benchmarks' peer
	@$(PYTEST) -q -m vllm $(ARGS)

bench: $(SET_UP_DEV) ## speed and memory beside other libraries (docs/performance.md); ARGS="ppo --quick" to choose
	@$(PYTHON) -m benchmarks $(or $(ARGS),all)

mutants: $(SET_UP_DEV) ## make the mistakes named by `@kills` in the tests: each test must notice its own (ARGS="kl gae" to choose)
	@$(PYTHON) tools/mutants.py $(ARGS)

lock: $(SET_UP_DEV) ## bring constraints.txt up to date with pyproject.toml; ARGS=--upgrade for new versions of everything
	@$$(command -v uv || echo $(PYTHON) -m uv) pip compile -q --universal --python-version 3.11 --extra dev --no-annotate \
		--custom-compile-command "make lock" pyproject.toml --output-file constraints.txt $(ARGS)
	@sed -E "/^(nvidia-|cuda-|triton==)|== 'emscripten'/d; s/( and| ;) sys_platform != 'emscripten'//" constraints.txt \
		> constraints.new && mv constraints.new constraints.txt  # which build of torch: tools/bootstrap.py decides

set-up:
	@$(PYTHON3) tools/bootstrap.py

set-up-dev:
	@$(PYTHON3) tools/bootstrap.py --extra dev
