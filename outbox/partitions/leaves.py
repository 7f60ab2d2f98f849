"""Create the partitions of one day, with the properties of the table that `LIKE` does not copy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from django.db import connections

from .catalogue import TABLES, covers, partitions, read
from .days import first_seq, partition_name
from .grants import grants, revoked


def create_day(day: date, *, using: str) -> None:
    """Create the partitions of a day that lack, in the open transaction. No other statement waits.

    Raises:
        OperationalError: a maintenance statement holds the table, and `lock_timeout` is over.
    """
    for parent in TABLES:
        if covers(partitions(parent, using=using), day):
            continue
        leaf = partition_name(parent, day)
        with connections[using].cursor() as cursor:
            for statement in _statements(parent, leaf, day, using=using):
                cursor.execute(statement)


def _statements(parent: str, leaf: str, day: date, *, using: str) -> Iterator[str]:
    low, high = first_seq(day), first_seq(day + timedelta(days=1))
    model = [parent, *(one.name for one in partitions(parent, using=using))][-1]
    [(schema, owner, identity, options, toast_options, space)] = read(
        _PROPERTIES, {"parent": parent, "model": model}, using=using
    )
    table, where = f"{schema}.{leaf}", f" TABLESPACE {space}" if space else ""
    yield (
        f"CREATE TABLE {table} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES "
        f"EXCLUDING IDENTITY){where}"
    )
    stored = [*(options or ()), *(f"toast.{one}" for one in toast_options or ())]
    if stored:
        yield f"ALTER TABLE {table} SET ({', '.join(map(_setting, stored))})"
    for column, target in read(TARGETS, [model], using=using):
        yield f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS {target}"
    if identity in REPLICA_IDENTITIES:
        yield f"ALTER TABLE {table} REPLICA IDENTITY {REPLICA_IDENTITIES[identity]}"
    yield from revoked(table, using=using)
    yield f"ALTER TABLE {table} OWNER TO {owner}"
    # Programs such as pg_dump read each partition by its own name.
    yield from grants(parent, to=table, using=using)
    # The lock of the table that this takes blocks no reader or writer, unlike that of
    # `CREATE TABLE ... PARTITION OF`.
    yield f"ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES FROM ({low}) TO ({high})"


def _setting(option: str) -> str:
    name, _, value = option.partition("=")
    return f"{name} = '{value}'"


#: `pg_class.relreplident`, of those that need no index.
REPLICA_IDENTITIES = {"f": "FULL", "n": "NOTHING"}

#: Owner and identity are those of the table; storage parameters are those of its last partition,
#: since PostgreSQL stores none for a partitioned table.
_PROPERTIES = """
SELECT quote_ident(n.nspname), quote_ident(pg_get_userbyid(p.relowner)), p.relreplident::text,
    m.reloptions, t.reloptions, quote_ident(s.spcname)
FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace
JOIN pg_class m ON m.oid = to_regclass(quote_ident(n.nspname) || '.' || quote_ident(%(model)s))
LEFT JOIN pg_class t ON t.oid = m.reltoastrelid
LEFT JOIN pg_tablespace s ON s.oid = m.reltablespace
WHERE p.oid = to_regclass(%(parent)s)"""

#: Columns with a statistics target of their own. The default is NULL, before PostgreSQL 17 -1.
TARGETS = """
SELECT quote_ident(attname), attstattarget FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attstattarget >= 0"""
