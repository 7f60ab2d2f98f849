"""`manage.py check --deploy --database default`: can this code handle the owed deliveries?

E023 an owed delivery could not be read, or would have no handler (contracts/rehearsal.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, router

from outbox.contracts.rehearsal import rehearse
from outbox.models import Delivery


@register(Tags.database, deploy=True)
def check_owed(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Rehearse the owed deliveries, if the outbox's database is among the given ones."""
    using = router.db_for_write(Delivery)
    tables = connections[using].introspection.table_names
    if using not in (databases or ()) or Delivery._meta.db_table not in tables():
        return []
    found = rehearse(using=using)
    return [
        Error(
            f"{problem.handler} is owed {number} of {problem.event}, version {problem.version}, "
            f"and could not do them: {problem.reason}.",
            hint=f"For example {', '.join(found.examples[problem])}; see `manage.py outbox why`.",
            obj="outbox",
            id="outbox.E023",
        )
        for problem, number in found.problems.items()
    ]
