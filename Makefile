# One command per chore; `make` alone prints them.

PYTHON ?= python3
BIN := .venv/bin
CORE := hybrid_layer/ipc/_core
INBOX := hybrid_layer/_inbox
TESTS ?= tests --ignore=tests/browser
SECONDS ?= 60
EXTRAS := cryptography,hiredis,opentelemetry,prometheus
READY := .venv/ready build/core

# Tests start thousands of processes, and each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/demo build/core ## run the example site on http://127.0.0.1:8000; HOSTS=redis://... LOCALITY=machine
	@$(if $(HOSTS),HYBRID_LAYER_HOSTS='$(HOSTS)') $(if $(LOCALITY),HYBRID_LAYER_LOCALITY='$(LOCALITY)') $(BIN)/python examples/chat/run.py

.PHONY: build
build: $(READY) ## compile what has changed: the C core and the inbox

PYTEST := $(BIN)/python -m pytest -n 4 --dist worksteal
# Tests that are asked for by name are run whole.
USUAL := $(if $(filter file,$(origin TESTS)),not thorough and not long,not long)
.PHONY: test
test: $(READY) ## run the tests, in some minutes; TESTS=tests/unit/test_names.py runs these, SERVER=valkey on Valkey
	$(PYTEST) $(if $(SERVER),--server=$(SERVER)) -m '$(USUAL)' $(TESTS)

# A test that needs several servers gets one of each kind; most need one, and that is the newest Redis.
.PHONY: test-all
test-all: test ## run all that CI runs: more configurations, each kind of server, the portable core, the browser
	$(PYTEST) -m 'thorough and not long' $(TESTS)
	$(PYTEST) -m 'not thorough and not long and not any_server' --server=redis-6.2 tests/remote
	$(PYTEST) -m 'not thorough and not long and not any_server' --server=valkey tests/remote
	$(MAKE) portable
	$(MAKE) browser

.PHONY: test-long
test-long: $(READY) ## run what takes long: thousands of kills, minutes of chaos
	$(BIN)/python -m pytest -m long tests

.PHONY: chaos
chaos: $(READY) ## kill senders and receivers for SECONDS=60, and see that nothing else goes wrong; SEED=... as printed
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# The core of systems other than Linux, in a copy of the tree, with shared memory as macOS has it. And with the inbox's
# twin in Python.
COPY := $(CURDIR)/build/portable
LOCAL_TESTS ?= tests/ipc tests/contract -k "ipc or hybrid-local"
.PHONY: portable
portable: $(READY) ## test the portable core on this machine: the local half without futex and /dev/shm
	rm -rf $(COPY) && mkdir -p $(COPY)
	cp -R setup.py pyproject.toml README.rst LICENSE hybrid_layer benchmarks tests $(COPY)
	find $(COPY)/hybrid_layer -name '*.so' -delete
	cd $(COPY) && HYBRID_LAYER_PORTABLE=1 $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	$(CC) -shared -fPIC -O1 -Wall -Wextra -Werror -o $(COPY)/elsewhere.so tests/ipc/core/elsewhere.c -ldl
	cd $(COPY) && HYBRID_LAYER_PORTABLE=1 HYBRID_LAYER_INTERPRETED=1 PYTHONPATH=$(COPY) LD_PRELOAD=$(COPY)/elsewhere.so \
		$(CURDIR)/$(BIN)/python -m pytest -n 4 --dist worksteal -m 'not long and not thorough' $(LOCAL_TESTS)

.PHONY: browser
browser: $(READY) ## test the example site in headless Chromium
	$(BIN)/python -m pytest tests/browser

.PHONY: bench
bench: $(READY) ## compare the layers with others, side by side: about 13 minutes
	$(BIN)/python -m benchmarks

.PHONY: bench-quick
bench-quick: $(READY) ## some of it, in a minute
	$(BIN)/python -m benchmarks --quick

# The compiler is asked with the very flags of the build, into a folder of its own. Sphinx checks docs/, and docutils what
# is read without it, on the pages of repositories and of PyPI.
.PHONY: lint
lint: $(READY) docs ## check format, style, types, the C code's complexity and warnings, and the texts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python .ci/spdx.py --check
	$(BIN)/mypy --strict hybrid_layer
	$(BIN)/clang-format --dry-run --Werror $$(find hybrid_layer tests -name '*.[ch]')
	$(BIN)/lizard --languages cpp --CCN 19 --warnings_only hybrid_layer
	CFLAGS='$(CFLAGS) -Werror' $(BIN)/python setup.py --quiet build_ext --force \
		--build-lib build/lint --build-temp build/lint
	for text in *.rst $(wildcard benchmarks/*.rst examples/*/*.rst); do $(BIN)/docutils --strict "$$text" > /dev/null || exit 1; done

# Always from nothing: a page that has not changed would not warn again.
.PHONY: docs
docs: .venv/docs build/core ## build the documentation into build/docs, from which index.html leads on
	rm -rf build/docs build/doctrees
	$(BIN)/sphinx-build --builder html --fail-on-warning --nitpicky --keep-going --quiet --jobs 2 -d build/doctrees docs build/docs

.PHONY: wheels
wheels: $(READY) .venv/wheels ## build dist/: the sdist and wheels for Linux, each used in clean environments; RELEASE=1
	$(if $(RELEASE),$(BIN)/python .ci/release_ready.py)
	$(BIN)/python .ci/wheels.py
	$(BIN)/nox --tags wheel

.PHONY: clean
clean: ## remove what was built, except .venv
	rm -rf build dist hybrid_layer.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find hybrid_layer tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
	find . -maxdepth 3 -path ./.venv -prune -o -name '*.so' -exec rm {} +

# The rules below run when what they depend on has changed: the environment, then the C core in place. `make demo` needs
# no more than the first environment, a dozen packages; the others add the tools to it. As pip compiles the core, too,
# what it compiled counts as up to date.

.NOTPARALLEL:
EDITABLE = $(BIN)/pip install --group $(1) --editable $(2) && mkdir -p build && touch $@ build/core

.venv/demo: setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hybrid_layer needs Python >= 3.11, and $(PYTHON) is " \
		+ sys.version.split()[0] + "; name another one: make PYTHON=...")'
	@echo '--- .venv: the package, compiled, and what serves the example site: about twenty seconds'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install 'pip>=25.1' # the first that knows dependency groups
	$(call EDITABLE,demo,.)

.venv/ready: .venv/demo
	@echo '--- .venv: the tools for tests, lint and benchmarks: about two minutes, with downloads'
	$(call EDITABLE,dev,'.[$(EXTRAS)]')

.venv/wheels: .venv/ready
	@echo '--- .venv: a compiler for other systems, and what checks wheels: about a minute, with downloads'
	$(BIN)/pip install --group wheels
	@touch $@

.venv/docs: .venv/demo
	@echo '--- .venv: Sphinx, for the documentation: some seconds, with downloads'
	$(BIN)/pip install --group docs
	@touch $@

build/core: .venv/demo $(wildcard $(CORE)/*.c $(CORE)/*.h $(CORE)/*/*.c $(INBOX)/*.[ch])
	@echo '--- the C core and the inbox, compiled: about ten seconds'
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2
	@mkdir -p build && touch $@
