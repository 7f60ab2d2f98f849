"""Compare the JSON Schema of a producer with the JSON Schema of a handler.

The reader is tolerant: it may ignore written values. Each written value that it reads must fit.
Compared are types, formats, properties and whether they are required, items and fixed positions,
keys and values of dictionaries, literals and enums, alternatives (unions, with and without a
discriminator), recursive types.

Ignored are bounds (minimum, lengths, patterns), aware against naive datetimes, aliases other than
the first, and checks of custom validators beyond the type's schema.
"""

from __future__ import annotations

from typing import Any

from . import schema_parts as parts
from .schema_parts import ANYTHING, Schema

_ANY_NAME: Schema = {"type": "string"}
#: Formats that take any string: bytes, paths and secrets.
_ANY_STRING = frozenset({None, "binary", "path", "password"})
#: A format (key) is a special case of other formats (value).
_SPECIAL_CASES = {
    **{f"uuid{version}": {"uuid"} for version in range(1, 9)},
    "ipv4": {"ipvanyaddress"},
    "ipv6": {"ipvanyaddress"},
    "integer": {"number", "decimal"},  # as a dictionary's key
    "number": {"decimal"},
}


def mismatches(
    written: Schema, read: Schema, *, path: str = "", assumes_formats: bool = False
) -> list[str]:
    """Return why some value that fits the schema `written` does not fit the schema `read`.

    Args:
        written: the schema of the producer.
        read: the schema of the handler's parameter.
        path: the name of the value; each sentence begins with it.
        assumes_formats: assume that a string whose format the producer does not state has the
            format that the handler reads.

    Returns:
        A sentence for each place, "lines[].quantity: the event carries a string, the handler reads
        an integer"; [] if every value fits.
    """
    comparison = _Comparison(
        written.get("$defs", {}), read.get("$defs", {}), assumes_formats=assumes_formats
    )
    return list(dict.fromkeys(comparison.compare(written, read, path)))


class _Comparison:
    """The comparison of two schemas with their definitions."""

    def __init__(self, written_defs: Schema, read_defs: Schema, *, assumes_formats: bool) -> None:
        self._written_defs = written_defs
        self._read_defs = read_defs
        self._assumes_formats = assumes_formats
        self._open: set[tuple[int, int]] = set()

    def compare(self, written: Schema | bool, read: Schema | bool, path: str) -> list[str]:
        """Return the mismatches; [] for a pair that is already being compared (recursion)."""
        written = parts.resolve(written, self._written_defs)
        read = parts.resolve(read, self._read_defs)
        pair = id(written), id(read)
        if pair in self._open:
            return []
        self._open.add(pair)
        try:
            return self._alternatives(written, read, path)
        finally:
            self._open.discard(pair)

    def _alternatives(self, written: Schema | bool, read: Schema | bool, path: str) -> list[str]:
        readers = list(parts.alternatives(read, self._read_defs))
        if any(parts.is_anything(one) for one in readers):
            return []
        found: list[str] = []
        for one in parts.alternatives(written, self._written_defs):
            values = parts.literals(one)
            if values is None:
                found += self._one(one, readers, path)
            else:
                found += _literals(values, readers, path)
        return found

    def _one(self, written: Schema, readers: list[Schema], path: str) -> list[str]:
        """Compare one alternative of the writer: it must fit one alternative of the reader."""
        tried = [(one, self._pair(written, one, path)) for one in readers]
        if any(not found for _, found in tried):
            return []
        alike = [found for one, found in tried if one.get("type") == written.get("type")]
        if alike and written.get("type") in ("object", "array"):
            return min(alike, key=len)  # of a discriminated union, probably the intended one
        return [_sentence(path, parts.noun(written), parts.either(readers))]

    def _pair(self, written: Schema, read: Schema, path: str) -> list[str]:
        kinds = written.get("type"), read.get("type")
        if parts.literals(read) is None:
            if kinds == ("object", "object"):
                return [*self._properties(written, read, path), *self._rest(written, read, path)]
            if kinds == ("array", "array"):
                return self._items(written, read, path)
            if self._assumes_formats and parts.format_of(written) is None:
                written = {**written, "format": parts.format_of(read)}
            if _is_scalar_within(written, read):
                return []
        return [_sentence(path, parts.noun(written), parts.noun(read))]

    def _properties(self, written: Schema, read: Schema, path: str) -> list[str]:
        """Compare the properties that the reader names."""
        found: list[str] = []
        others = _others(written)
        for name, wanted in read.get("properties", {}).items():
            part = _join(path, name)
            given = written.get("properties", {}).get(name, others)
            found += self.compare(given, wanted, part)
            if name in read.get("required", ()) and name not in written.get("required", ()):
                does = "does not carry it" if given is False else "may omit it"
                found.append(f"{part}: the event {does}, the handler requires it")
        return found

    def _rest(self, written: Schema, read: Schema, path: str) -> list[str]:
        """Compare the properties that the reader does not name."""
        extra = parts.other_properties(read, default=ANYTHING)
        names = read.get("propertyNames", _ANY_NAME)
        found: list[str] = []
        for name, given in written.get("properties", {}).items():
            if name not in read.get("properties", {}):
                found += self._extra(name, given, extra, names, _join(path, name))
        others = _others(written)
        if others is not False:
            own_names = written.get("propertyNames", _ANY_NAME)
            found += self.compare(own_names, names, f"{path}{{}} (its keys)")
            found += self.compare(others, extra, f"{path}{{}}")
        return found

    def _extra(self, name: str, given: Any, extra: Any, names: Any, path: str) -> list[str]:
        if extra is False:
            return [f"{path}: the event carries it, the handler's type forbids it"]
        its_name = {"type": "string", "const": name}
        return [
            *self.compare(its_name, names, f"{path} (its name)"),
            *self.compare(given, extra, path),
        ]

    def _items(self, written: Schema, read: Schema, path: str) -> list[str]:
        """Compare fixed positions one by one, then the rest."""
        least, most = parts.lengths(written)
        wanted_least, wanted_most = parts.lengths(read)
        if "prefixItems" in read and (least < wanted_least or most > wanted_most):
            return [_sentence(path, parts.noun(written), parts.noun(read))]
        fixed = max(len(one.get("prefixItems", ())) for one in (written, read))
        places = [(index, f"{path}[{index}]") for index in range(fixed)] + [(fixed, f"{path}[]")]
        found: list[str] = []
        for index, part in places:
            if index < most:
                found += self.compare(parts.item(written, index), parts.item(read, index), part)
        return found


def _others(written: Schema) -> Any:
    # pydantic writes only the declared fields of a model.
    return parts.other_properties(written, default="properties" not in written)


def _literals(values: list[Any], readers: list[Schema], path: str) -> list[str]:
    bad = [one for one in values if not any(_is_value_within(one, read) for read in readers)]
    return [_sentence(path, parts.quoted(bad), parts.either(readers))] if bad else []


def _is_value_within(value: Any, read: Schema) -> bool:
    kind = parts.type_of(value)
    allowed = parts.literals(read)
    if allowed is not None:
        return any(parts.type_of(one) == kind and one == value for one in allowed)
    # A list or object is the value of an unusual enum: only an equal one certainly fits.
    return kind not in ("array", "object") and _is_scalar_within({"type": kind}, read)


def _is_scalar_within(written: Schema, read: Schema) -> bool:
    kinds = written.get("type"), read.get("type")
    if kinds == ("string", "string"):
        given, wanted = parts.format_of(written), parts.format_of(read)
        return wanted in _ANY_STRING or wanted in {given, *_SPECIAL_CASES.get(given, ())}
    return kinds[0] is not None and (kinds[0] == kinds[1] or kinds == ("integer", "number"))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _sentence(path: str, given: str, wanted: str) -> str:
    text = f"the event carries {given}, the handler reads {wanted}"
    return f"{path}: {text}" if path else text
