"""Rights of tables and sequences, as statements that give them to new ones."""

from __future__ import annotations

from .catalogue import NUMBERED, read


def grants(relation: str, *, to: str = "", kind: str = "TABLE", using: str) -> list[str]:
    """Return GRANT statements with the rights of a table or sequence, without its owner's.

    Args:
        relation: the name of the table or sequence, as SQL.
        to: the relation that gets the rights, as SQL; "": the same name.
        kind: "TABLE" or "SEQUENCE".
        using: the database alias.
    """
    rows = read(_GRANTS, {"relation": relation}, using=using)
    return [
        f"GRANT {privilege}{column} ON {kind} {to or relation} TO {grantee}"
        f"{' WITH GRANT OPTION' if is_grantable else ''}"
        for privilege, column, grantee, is_grantable in rows
    ]


def revoked(relation: str, *, kind: str = "TABLE", using: str) -> list[str]:
    """Return statements that revoke the rights that default privileges grant on a new relation.

    Execute them before the relation gets another owner, who may be one of the grantees.
    """
    rows = read(_DEFAULT_GRANTEES, using=using)
    return [f"REVOKE ALL ON {kind} {relation} FROM {grantee}" for [grantee] in rows]


def numbering(table: str, sequence: str, *, using: str) -> list[str]:
    """Return statements that let all who may store rows of a table use its sequence.

    An identity column needs no right on its sequence, and `DEFAULT nextval()` does.
    """
    rows = read(_GRANTS, {"relation": table}, using=using)
    roles = {grantee for privilege, _column, grantee, _grantable in rows if privilege == "INSERT"}
    return [f"GRANT USAGE ON SEQUENCE {sequence} TO {role}" for role in sorted(roles)]


def lacking_numbering(table: str, *, using: str) -> list[tuple[str, str]]:
    """Return (role, sequence) of each role that may store rows of a table and not number them."""
    known = {"table": table, "column": NUMBERED[table]}
    return [(role, sequence) for role, sequence in read(_LACKING, known, using=using)]


_GRANTS = """
SELECT privilege_type, column_name, grantee_name, is_grantable FROM (
    SELECT c.relowner, '' AS column_name, a.* FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = to_regclass(%(relation)s)
    UNION ALL
    SELECT c.relowner, ' (' || quote_ident(t.attname) || ')', a.*
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
    WHERE c.oid = to_regclass(%(relation)s) AND NOT t.attisdropped
) AS given, LATERAL (
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
) AS named (grantee_name)
WHERE grantee <> relowner"""

_DEFAULT_GRANTEES = """
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_default_acl, aclexplode(defaclacl)
WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
AND defaclobjtype IN ('r', 'S') AND grantee <> defaclrole"""

_LACKING = """
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
    sequence
FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid,
    LATERAL (SELECT * FROM aclexplode(c.relacl) UNION SELECT * FROM aclexplode(t.attacl)) given,
    LATERAL (SELECT pg_get_serial_sequence(%(table)s, %(column)s) AS sequence) named
WHERE c.oid = to_regclass(%(table)s) AND privilege_type = 'INSERT' AND grantee <> c.relowner
AND NOT CASE grantee WHEN 0 THEN has_sequence_privilege('public', sequence, 'USAGE, UPDATE')
    ELSE has_sequence_privilege(grantee, sequence, 'USAGE, UPDATE') END"""
