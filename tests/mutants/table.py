"""All mutants, in the order in which they run."""

from __future__ import annotations

from tests.mutants.admin import ADMIN
from tests.mutants.alerts import ALERTS
from tests.mutants.amqp_redis_http import AMQP_REDIS_HTTP
from tests.mutants.api import API
from tests.mutants.brokers import BROKERS
from tests.mutants.carriers import CARRIERS
from tests.mutants.celery_tasks import CELERY_TASKS
from tests.mutants.contracts import CONTRACTS
from tests.mutants.coroutines import COROUTINES
from tests.mutants.demand import DEMAND
from tests.mutants.edges import EDGES
from tests.mutants.engine import ENGINE
from tests.mutants.kafka import KAFKA
from tests.mutants.local import LOCAL
from tests.mutants.lost_hosts import LOST_HOSTS
from tests.mutants.messages import MESSAGES
from tests.mutants.money import MONEY
from tests.mutants.mutant import Mutant
from tests.mutants.operators import OPERATORS
from tests.mutants.outages import OUTAGES
from tests.mutants.people import PEOPLE
from tests.mutants.privacy import PRIVACY
from tests.mutants.receivers import RECEIVERS
from tests.mutants.recovery import RECOVERY
from tests.mutants.settlements import SETTLEMENTS
from tests.mutants.several_databases import SEVERAL_DATABASES
from tests.mutants.shop import SHOP
from tests.mutants.signs import SIGNS
from tests.mutants.sources import SOURCES
from tests.mutants.storefront import STOREFRONT
from tests.mutants.tasks import TASKS
from tests.mutants.tenants import TENANTS

MUTANTS: list[Mutant] = [
    *ENGINE,
    *RECOVERY,
    *OUTAGES,
    *LOST_HOSTS,
    *PEOPLE,
    *SIGNS,
    *COROUTINES,
    *SHOP,
    *ADMIN,
    *API,
    *PRIVACY,
    *SOURCES,
    *RECEIVERS,
    *SETTLEMENTS,
    *CARRIERS,
    *CELERY_TASKS,
    *EDGES,
    *MESSAGES,
    *KAFKA,
    *BROKERS,
    *AMQP_REDIS_HTTP,
    *CONTRACTS,
    *TASKS,
    *LOCAL,
    *ALERTS,
    *SEVERAL_DATABASES,
    *TENANTS,
    *STOREFRONT,
    *DEMAND,
    *MONEY,
    *OPERATORS,
]
