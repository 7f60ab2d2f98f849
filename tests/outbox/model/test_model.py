from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pytest_django import Settings

from tests.outbox.model.machine import Machine
from tests.outbox.model.reference import MOST_DEATHS

# `make model` sets a number. Each run is then different, and Hypothesis shrinks failures.
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))

ALWAYS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
IN_EACH_RUN = settings(
    ALWAYS,
    max_examples=12,
    stateful_step_count=25,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
)
AT_LENGTH = settings(ALWAYS, max_examples=EXAMPLES or 1, stateful_step_count=60)


@pytest.mark.usefixtures("own_registry")
class TestTheEngine:
    def test_does_as_its_model_whatever_happens(self, settings: Settings):
        """Rules 3, 6, 9, 10, 11, 13 and 18. `make mutants` lists the mutants that it finds."""
        settings.OUTBOX = {"NUDGE": False, "MAX_WORKER_CRASHES": MOST_DEATHS}

        run_state_machine_as_test(Machine, settings=AT_LENGTH if EXAMPLES else IN_EACH_RUN)
