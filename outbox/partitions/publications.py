"""Publications of a table, and how they publish a partitioned one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .catalogue import read


@dataclass(frozen=True)
class Publisher:
    """A publication that has a table, by its name or by that of its schema or database.

    Attributes:
        name: its name, as SQL.
        owner: its owner, as SQL.
        is_ours: whether this role may alter it.
        is_via_root: whether it publishes rows of partitions as rows of their table.
        has_changes: whether it publishes an UPDATE, DELETE or TRUNCATE. PostgreSQL publishes no
            TRUNCATE of a partition.
    """

    name: str
    owner: str
    is_ours: bool
    is_via_root: bool
    has_changes: bool


def publishers(table: str, *, using: str) -> list[Publisher]:
    """Return the publications that have a table, or some of its partitions, by name.

    Without `publish_via_partition_root` they have the partitions, and not the table.
    """
    return [Publisher(*row) for row in read(_PUBLISHERS, {"table": table}, using=using)]


def publications(table: str, first: str, *, using: str) -> Iterator[str]:
    """Yield statements that publish a partitioned table as the present table is published.

    Args:
        table: the table, which `first` was renamed from.
        first: the name of the present table as the first partition.
        using: the database alias.
    """
    for row in explicit_publications(table, using=using):
        columns, row_filter = row["columns"], row["filter"]
        of_columns = f" ({', '.join(columns)})" if columns else ""
        of_rows = f" WHERE ({row_filter})" if row_filter else ""
        yield f"ALTER PUBLICATION {row['name']} ADD TABLE {table}{of_columns}{of_rows}"
        yield f"ALTER PUBLICATION {row['name']} DROP TABLE {first}"


def explicit_publications(table: str, *, using: str) -> list[dict[str, Any]]:
    """Return the publications that name a table, with their columns and filters of rows."""
    names = ("name", "columns", "filter")
    rows = read(_PUBLICATIONS, {"table": table}, using=using)
    return [dict(zip(names, row, strict=True)) for row in rows]


# Before PostgreSQL 15, the view has neither columns nor filters. It lists all columns if the
# publication names none.
_PUBLICATIONS = """
SELECT quote_ident(p.pubname),
    CASE WHEN jsonb_array_length(shown.row -> 'attnames') < all_columns.number
        THEN ARRAY(
            SELECT quote_ident(one) FROM jsonb_array_elements_text(shown.row -> 'attnames') one)
    END,
    shown.row ->> 'rowfilter'
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN LATERAL (
    SELECT to_jsonb(t) AS row FROM pg_publication_tables t
    WHERE t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname
) shown ON true
JOIN LATERAL (
    SELECT count(*) AS number FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) all_columns ON true
WHERE r.prrelid = to_regclass(%(table)s)"""

_PUBLISHERS = """
SELECT DISTINCT quote_ident(p.pubname), quote_ident(pg_get_userbyid(p.pubowner)),
    pg_has_role(p.pubowner, 'USAGE'), p.pubviaroot, p.pubupdate OR p.pubdelete OR p.pubtruncate
FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
JOIN pg_class c ON c.relname = t.tablename
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname
WHERE c.oid = to_regclass(%(table)s) OR EXISTS (
    SELECT 1 FROM pg_inherits WHERE inhrelid = c.oid AND inhparent = to_regclass(%(table)s))
ORDER BY 1"""
