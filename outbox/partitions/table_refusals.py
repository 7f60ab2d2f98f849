"""Reasons against a conversion that are objects of a table: dependents, constraints, indexes."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from .catalogue import INDEXES_OF, KEYS, read
from .preparation import INDEXES, range_check
from .publications import explicit_publications, publishers
from .refusal import Refusal, run


def refusals_of(table: str, *, using: str) -> Iterator[Refusal]:
    """Yield the reasons that objects of a table, or those that need it, give."""
    yield from _of_dependents(table, using)
    yield from _of_constraints(table, using)
    yield from _of_indexes(table, using)
    yield from _of_publications(table, using)


def _of_dependents(table: str, using: str) -> Iterator[Refusal]:
    params = {"table": table}
    for [described] in read(_DEPENDENTS, params, using=using):
        yield Refusal(
            _("%(table)s is used by: %(described)s. It would stay with the first partition.")
            % {"table": table, "described": described},
            _("Drop it, convert the tables, and create it again."),
        )
    for name, other in foreign_keys_to(table, using=using):
        yield Refusal(
            _("The foreign key %(name)s of %(other)s refers to %(table)s, whose rows are removed.")
            % {"name": name, "other": other, "table": table},
            _("Store the event's id in a column without a foreign key, and drop the constraint."),
        )
    [(has_security, identity, is_inherited)] = read(_PROPERTIES, params, using=using)
    if has_security:
        yield Refusal(
            _("%(table)s has row-level security.") % {"table": table},
            _("Remove its policies, convert the tables, and create the policies again."),
        )
    if identity == "i":
        yield Refusal(
            _("The replica identity of %(table)s is an index.") % {"table": table},
            run(f"ALTER TABLE {table} REPLICA IDENTITY FULL"),
        )
    if is_inherited:
        yield Refusal(
            _("%(table)s inherits from a table, or another table from it.") % {"table": table},
            _("Remove the inheritance by ALTER TABLE ... NO INHERIT."),
        )


def _of_constraints(table: str, using: str) -> Iterator[Refusal]:
    for [name] in read(_OWN_FOREIGN_KEYS, {"table": table}, using=using):
        yield Refusal(
            _("The foreign key %(name)s of %(table)s would be lost.")
            % {"name": name, "table": table},
            _("Drop the constraint. Its column stays."),
        )
    for name, is_valid in read(_CHECKS, [table, range_check(table)], using=using):
        cause, step = (
            (
                _("The constraint %(name)s of %(table)s is NO INHERIT."),
                _("Replace it by one that partitions inherit."),
            )
            if is_valid
            else (
                _("The constraint %(name)s of %(table)s is not validated."),
                _("Validate or drop it."),
            )
        )
        yield Refusal(cause % {"name": name, "table": table}, step)


def _of_indexes(table: str, using: str) -> Iterator[Refusal]:
    ours = {f"{table}_pkey", f"{table}_id_key", *(one.name for one in INDEXES)}
    params = {"table": table, "key": KEYS[table]}
    for name, _kind, _definition, fits in read(INDEXES_OF, params, using=using):
        if not fits and name not in ours:
            yield Refusal(
                _("The unique index %(name)s of %(table)s lacks the partition key %(key)s.")
                % {"name": name, "table": table, "key": KEYS[table]},
                _("Drop it, or replace it by one that contains %(key)s.") % {"key": KEYS[table]},
            )
    for [name] in read(_INVALID, [table], using=using):
        if name not in ours:
            yield Refusal(
                _("The index %(name)s of %(table)s is invalid.") % {"name": name, "table": table},
                _("Run REINDEX INDEX CONCURRENTLY %(name)s, or drop it.") % {"name": name},
            )


def _of_publications(table: str, using: str) -> Iterator[Refusal]:
    explicit = {row["name"] for row in explicit_publications(table, using=using)}
    for one in publishers(table, using=using):
        if one.has_changes:
            yield Refusal(
                _(
                    "The publication %(name)s has more than the inserts of %(table)s. Subscribers "
                    "would keep the rows of removed days."
                )
                % {"name": one.name, "table": table},
                run(f"ALTER PUBLICATION {one.name} SET (publish = 'insert')"),
            )
        if not one.is_via_root:
            yield Refusal(
                _("The publication %(name)s would publish rows of %(table)s as of its partitions.")
                % {"name": one.name, "table": table},
                run(f"ALTER PUBLICATION {one.name} SET (publish_via_partition_root = true)"),
            )
        if one.name in explicit and not one.is_ours:
            yield Refusal(
                _("The publication %(name)s belongs to another role.") % {"name": one.name},
                _("Run this command as a superuser, or as a member of %(owner)s.")
                % {"owner": one.owner},
            )


def foreign_keys_to(table: str, *, using: str) -> list[tuple[str, str]]:
    """Return (name, table) of each foreign key to a table that is not the outbox's own."""
    return [(name, other) for name, other in read(_FOREIGN_KEYS, {"table": table}, using=using)]


# Objects that refer to the table, or to the type of its rows, by its number. Its indexes, defaults,
# constraints, sequence, statistics and publications are renewed or stay with the rows.
_DEPENDENTS = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend d JOIN pg_class t ON t.oid = to_regclass(%(table)s)
LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE d.deptype IN ('n', 'a') AND (
    d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
    OR d.refclassid = 'pg_type'::regclass AND d.refobjid = t.reltype)
AND d.classid::regclass::text NOT IN (
    'pg_attrdef', 'pg_constraint', 'pg_type', 'pg_statistic_ext', 'pg_publication_rel')
AND coalesce(c.relkind, '') NOT IN ('i', 'I', 'S', 't')
AND NOT EXISTS (
    SELECT 1 FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
    AND g.tgisinternal)"""

_FOREIGN_KEYS = """
SELECT quote_ident(conname), conrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND confrelid = to_regclass(%(table)s) AND conrelid NOT IN (
    to_regclass('outbox_delivery'), to_regclass('outbox_attempt'), to_regclass('outbox_settlement'))
"""

_PROPERTIES = """
SELECT c.relrowsecurity OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid),
    c.relreplident::text,
    EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = c.oid OR inhparent = c.oid)
FROM pg_class c WHERE c.oid = to_regclass(%(table)s)"""

_INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(%s) AND NOT i.indisvalid"""

_OWN_FOREIGN_KEYS = """
SELECT quote_ident(conname) FROM pg_constraint
WHERE contype = 'f' AND conrelid = to_regclass(%(table)s)
AND confrelid NOT IN (to_regclass('outbox_event'), to_regclass('outbox_subscription'))"""

# Checks and NOT NULL (PostgreSQL 18). Attached partitions must have the same, validated ones.
_CHECKS = """
SELECT quote_ident(conname), convalidated FROM pg_constraint
WHERE contype IN ('c', 'n') AND conrelid = to_regclass(%s) AND conname <> %s
AND (connoinherit OR NOT convalidated) ORDER BY conname"""
