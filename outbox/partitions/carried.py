"""Properties of a table that `LIKE` does not copy: owner, grants, publications and others."""

from __future__ import annotations

from .catalogue import read
from .grants import grants, revoked
from .leaves import REPLICA_IDENTITIES, TARGETS


def carried_statements(table: str, *, using: str) -> list[str]:
    """Return statements that give a new table of this name the properties of the present one.

    They are to be executed after the new table has been created under the name.
    """
    [(owner, identity, comment)] = read(_PROPERTIES, [table], using=using)
    found = [*revoked(table, using=using), f"ALTER TABLE {table} OWNER TO {owner}"]
    for column, target in read(TARGETS, [table], using=using):
        found.append(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS {target}")
    if identity in REPLICA_IDENTITIES:
        found.append(f"ALTER TABLE {table} REPLICA IDENTITY {REPLICA_IDENTITIES[identity]}")
    if comment:
        found.append(f"COMMENT ON TABLE {table} IS {comment}")
    return [*found, *grants(table, using=using)]


_PROPERTIES = """
SELECT quote_ident(pg_get_userbyid(relowner)), relreplident::text,
    quote_literal(obj_description(oid, 'pg_class'))
FROM pg_class WHERE oid = to_regclass(%s)"""
