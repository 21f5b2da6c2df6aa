# Everything a person needs after a clone: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-for-the-demo
SOURCES := $(wildcard engine/*.py engine/*/*.py grammar/*.py repl/*.py)

.PHONY: demo test check bench soak portability dev clean format generate tables reference

# Installed again whenever the set of modules or the package definition changes: an editable install links module by module.
$(STAMP): pyproject.toml $(shell ls -d engine grammar repl engine/*/ 2>/dev/null)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'setuptools>=77' pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check,bench]'
	touch $(STAMP)

dev: $(STAMP)

# The demo needs the package alone; where everything is installed already, that does.
$(DEMO_STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $(DEMO_STAMP)

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))
	rm -rf build/demo
	$(BIN)/geode --target build/demo run examples/quickstart.gql

test: $(STAMP)
	$(BIN)/python -m pytest -q

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ruff check --isolated --preview --select PLW1514 engine grammar repl tests examples
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH)

soak: $(STAMP)
	GEODE_SOAK=1 $(BIN)/python -m pytest -q --timeout=5400 $(SOAK)

portability: $(STAMP)
	$(BIN)/python tests/portability.py $(PORTABILITY)

tables: $(STAMP)
	$(BIN)/python -m geode_client.grammar.tables grammar/gql.tables

reference: $(STAMP)
	$(BIN)/python -m tests.repository.language_page

generate: $(STAMP)
	$(BIN)/python -m tests.repository.generate_sync

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info
