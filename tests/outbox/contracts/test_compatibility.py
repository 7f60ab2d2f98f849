from __future__ import annotations

import dataclasses
import enum
import json
from collections import OrderedDict
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Union
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import UUID4, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, create_model
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from outbox.contracts.compatibility import mismatches
from outbox.contracts.json_schemas import read_schema, written_schema


def found(written: Any, read: Any) -> list[str]:
    """Compare an event's field `it`, of type `written`, with a parameter of type `read`."""
    schema = written_schema(create_model("Noted", it=(written, ...)))
    return mismatches(
        {**schema["properties"]["it"], "$defs": schema.get("$defs", {})},
        read_schema(read),
        path="it",
    )


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    S = 1
    L = 2


class Line(BaseModel):
    sku: str
    quantity: int


class Sku(BaseModel):
    sku: str


class StrictSku(Sku):
    model_config = ConfigDict(extra="forbid")


class NamedLine(Line):
    name: str


class WordyLine(BaseModel):
    sku: str
    quantity: str


class LineWithDefault(BaseModel):
    sku: str = ""
    quantity: int = 1
    tags: list[str] = Field(default_factory=list)


class LineWithTags(BaseModel):
    quantity: int
    tags: list[str]


class ShyLine(BaseModel):
    sku: str = Field(default="", exclude_if=lambda value: not value)


@dataclasses.dataclass
class DataLine:
    sku: str
    quantity: int = 1


class TypedLine(TypedDict):
    sku: str
    quantity: NotRequired[int]


class Pair(NamedTuple):
    sku: str
    quantity: int


class PairWithDefault(NamedTuple):
    sku: str
    quantity: int = 1


class Tree(BaseModel):
    name: str
    children: list[Tree]


class ThinTree(BaseModel):
    children: list[ThinTree]


class WordyTree(BaseModel):
    name: int
    children: list[WordyTree]


class Card(BaseModel):
    kind: Literal["card"]
    last4: str


class Cash(BaseModel):
    kind: Literal["cash"]


class NumberedCard(BaseModel):
    kind: Literal["card"]
    last4: int


Means = Annotated[Card | Cash, Field(discriminator="kind")]
NumberedMeans = Annotated[NumberedCard | Cash, Field(discriminator="kind")]


class TestACompatibleType:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            (int, float),
            (int, Decimal),
            (Decimal, str),
            (UUID, str),
            (UUID4, UUID),
            (datetime, str),
            (str, bytes),
            (str, Any),
            (Any, object),
            (Any, JsonValue),
            (list[Any], list),
            (dict, dict[str, Any]),
            (int, int | None),
            (int | None, int | str | None),
            (bool | str, str | bool),
            (Literal["a"], Literal["a", "b"]),
            (Literal["a", 1], str | int),
            (Literal["red"], Colour),
            (Colour, str),
            (Colour, Literal["blue", "red", "green"]),
            (Size, int),
            (Size, float),
            (list[int], list[float]),
            (list[int], set[int]),
            (list[int], tuple[int, ...]),
            (tuple[int, int], list[int]),
            (tuple[int, str], list[int | str]),
            (tuple[int, str], tuple[float, str]),
            (Annotated[list[int], Field(min_length=2, max_length=2)], tuple[int, int]),
            (Pair, tuple[str, int]),
            (Pair, PairWithDefault),
            (dict[str, int], dict[str, float]),
            (dict[UUID, int], dict[str, int]),
            (dict[int, str], dict[int, str]),
            (OrderedDict[UUID, int], dict[UUID, int]),
            (Line, Sku),
            (Line, DataLine),
            (Line, TypedLine),
            (DataLine, Line),
            (LineWithDefault, Line),
            (LineWithDefault, LineWithTags),
            (TypedLine, DataLine),
            (Line, dict[str, int | str]),
            (Line, dict[Literal["sku", "quantity"], Any]),
            (dict[str, str], ShyLine),
            (Tree, Tree),
            (Tree, ThinTree),
            (list[Tree], list[dict[str, Any]]),
            (Means, Means),
            (Card, Means),
            (Means, Card | Cash | None),
            (int, Annotated[int, Field(gt=0)]),  # bounds are not compared
        ],
    )  # fmt: skip
    def test_has_no_mismatch(self, written, read):
        assert found(written, read) == []


class TestAMismatch:
    @pytest.mark.parametrize(
        ("written", "read", "path", "carried", "wanted"),
        [
            (str, int, "it", "a string", "an integer"),
            (int, str, "it", "an integer", "a string"),
            (float, int, "it", "a number", "an integer"),
            (bool, int, "it", "a boolean", "an integer"),
            (str, UUID, "it", "a string", "a string (uuid)"),
            (UUID, UUID4, "it", "a string (uuid)", "a string (uuid4)"),
            (date, datetime, "it", "a string (date)", "a string (date-time)"),
            (str, Decimal, "it", "a string", "a number or a string (decimal)"),
            (Decimal, float, "it", "a string (decimal)", "a number"),
            (Any, int, "it", "anything", "an integer"),
            (int | None, int, "it", "null", "an integer"),
            (int | str | bool, int | str, "it", "a boolean", "an integer or a string"),
            (str, Colour, "it", "a string", '"red" or "blue"'),
            (Literal["a", "b"], Literal["b", "c"], "it", '"a"', '"b" or "c"'),
            (Literal[1], Literal[True], "it", "1", "true"),
            (Size, Colour, "it", "1 or 2", '"red" or "blue"'),
            (Literal["x"], UUID, "it", '"x"', "a string (uuid)"),
            (list[str], list[int], "it[]", "a string", "an integer"),
            (list[int], int, "it", "a list", "an integer"),
            (list[int], tuple[int, int], "it", "a list", "a list of 2"),
            (tuple[int, int], tuple[int], "it", "a list of 2", "a list of 1"),
            (tuple[int, str], tuple[int, int], "it[1]", "a string", "an integer"),
            (PairWithDefault, Pair, "it", "a list of 1 to 2", "a list of 2"),
            (dict[str, str], dict[str, int], "it{}", "a string", "an integer"),
            (dict[str, int], dict[int, int], "it{} (its keys)", "a string", "a string (integer)"),
            (dict[str, int], dict[UUID, int], "it{} (its keys)", "a string", "a string (uuid)"),
            (Line, dict[str, int], "it.sku", "a string", "an integer"),
            (Line, dict[Literal["sku"], Any], "it.quantity (its name)", '"quantity"', '"sku"'),
            (dict[str, int], LineWithDefault, "it.sku", "an integer", "a string"),
            (Line, int, "it", "an object (Line)", "an integer"),
            (list[Line], list[WordyLine], "it[].quantity", "an integer", "a string"),
            (list[Line], list[WordyLine | None], "it[].quantity", "an integer", "a string"),
            (Tree, WordyTree, "it.name", "a string", "an integer"),
            (Means, Card, "it.kind", '"cash"', '"card"'),
            (Means, NumberedMeans, "it.last4", "a string", "an integer"),
        ],
    )  # fmt: skip
    def test_is_reported_with_its_path(self, written, read, path, carried, wanted):
        sentence = f"{path}: the event carries {carried}, the handler reads {wanted}"

        assert sentence in found(written, read)

    @pytest.mark.parametrize(
        ("written", "read", "sentence"),
        [
            (Line, NamedLine, "it.name: the event does not carry it, the handler requires it"),
            (dict[str, str], Sku, "it.sku: the event may omit it, the handler requires it"),
            (TypedLine, Line, "it.quantity: the event may omit it, the handler requires it"),
            (ShyLine, Sku, "it.sku: the event may omit it, the handler requires it"),
            (Line, StrictSku, "it.quantity: the event carries it, the handler's type forbids it"),
        ],
    )
    def test_can_concern_a_missing_field(self, written, read, sentence):
        assert sentence in found(written, read)

    def test_is_reported_once(self):
        assert found(Tree, WordyTree) == [
            "it.name: the event carries a string, the handler reads an integer"
        ]

    def test_hides_no_other(self):
        class Other(BaseModel):
            sku: int
            quantity: str
            weight: int

        assert len(found(Line, Other)) == 3


# --- Any pair of types: pydantic reads each value for which mismatches() is empty -----------------


@dataclasses.dataclass(frozen=True)
class Contract:
    """A type that is written, values of it, and a type that reads them, or tries to."""

    written: Any
    values: st.SearchStrategy[Any]
    read: Any


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**40), 2**40)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, TEXT),
    (UUID, st.uuids()),
    (UUID4, st.uuids(version=4)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2)),
    (datetime, st.datetimes()),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(0), timedelta(days=999))),
    (None, st.none()),
    (Any, st.one_of(st.none(), TEXT, st.integers(-9, 9), st.lists(st.booleans(), max_size=2))),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Literal["red"], st.just("red")),
    (Literal["red", 1, None], st.sampled_from(["red", 1, None])),
]
KINDS = [kind for kind, _ in SCALARS]
TYPED: Any = TypedDict  # called with what is made at run time
KEYS = (str, int, UUID, date, Colour, Literal["red"])


def scalars(among: Any = KINDS) -> st.SearchStrategy[Contract]:
    known = [(kind, values) for kind, values in SCALARS if kind in among]
    same = st.sampled_from(known).map(lambda one: Contract(one[0], one[1], one[0]))
    any_two = st.tuples(st.sampled_from(known), st.sampled_from(list(among)))
    return same | any_two.map(lambda two: Contract(two[0][0], two[0][1], two[1]))


def listed(of: Contract, *, as_set_or_tuple: bool) -> Contract:
    is_hashable = of.read in KINDS and of.read is not Any
    read = set[of.read] if is_hashable else tuple[of.read, ...]  # type: ignore[name-defined]
    return Contract(
        list[of.written],  # type: ignore[name-defined]  # a value, here and below
        st.lists(of.values, max_size=3),
        read if as_set_or_tuple else list[of.read],  # type: ignore[name-defined]
    )


def keyed(key: Contract, of: Contract) -> Contract:
    return Contract(
        dict[key.written, of.written],  # type: ignore[name-defined]
        st.dictionaries(key.values, of.values, max_size=3),
        dict[key.read, of.read],  # type: ignore[name-defined]
    )


def placed(parts: list[Contract], *, as_list: bool) -> Contract:
    read = tuple(one.read for one in parts)
    return Contract(
        tuple[tuple(one.written for one in parts)],  # type: ignore[misc]
        st.tuples(*[one.values for one in parts]),
        list[_any_of(read)] if as_list else tuple[read],  # type: ignore[misc, valid-type]
    )


def alternatives(written: list[Contract], more: list[Contract]) -> Contract:
    return Contract(
        _any_of(one.written for one in written),
        st.one_of([one.values for one in written]),
        _any_of(one.read for one in [*more, *written]),
    )


def _any_of(kinds: Iterable[Any]) -> Any:
    return Union[tuple(kinds)]  # noqa: UP007  of as many as there are


#: Of each field: its contract, is it optional for the writer, for the reader, does the reader know
#: it, does the writer.
Fields = dict[str, tuple[Contract, bool, bool, bool, bool]]


def modelled(fields: Fields, *, extra: Any) -> Contract:
    sent = {name: one for name, one in fields.items() if one[4]}
    written: Any = {n: (one[0].written, None if one[1] else ...) for n, one in sent.items()}
    read: Any = {n: (one[0].read, None if one[2] else ...) for n, one in fields.items() if one[3]}
    made = create_model("Written", **written)
    values = st.fixed_dictionaries({name: one[0].values for name, one in sent.items()})
    reader = create_model("Read", __config__=ConfigDict(extra=extra), **read)
    return Contract(made, values.map(lambda given: made.model_construct(**given)), reader)


def typed(fields: Fields) -> Contract:
    sent = {name: one for name, one in fields.items() if one[4]}
    written = {
        n: NotRequired[one[0].written] if one[1] else one[0].written for n, one in sent.items()
    }
    read = {n: NotRequired[o[0].read] if o[2] else o[0].read for n, o in fields.items() if o[3]}
    return Contract(
        TYPED("Written", written),
        st.fixed_dictionaries(
            {name: one[0].values for name, one in sent.items() if not one[1]},
            optional={name: one[0].values for name, one in sent.items() if one[1]},
        ),
        TYPED("Read", read),
    )


def compound(parts: st.SearchStrategy[Contract]) -> st.SearchStrategy[Contract]:
    often = st.sampled_from([True, True, True, False])
    field = st.tuples(parts, st.booleans(), st.booleans(), often, often)
    fields = st.dictionaries(st.sampled_from("abc"), field, max_size=3)
    several = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        st.builds(listed, parts, as_set_or_tuple=st.booleans()),
        st.builds(keyed, scalars(KEYS), parts),
        st.builds(placed, several, as_list=st.booleans()),
        st.builds(alternatives, several, st.lists(parts, max_size=1)),
        st.builds(modelled, fields, extra=st.sampled_from(["ignore", "forbid", "allow"])),
        st.builds(typed, fields),
        st.tuples(parts, parts).map(
            lambda two: Contract(two[0].written, two[0].values, two[1].read)
        ),
    )


contracts = st.recursive(scalars(), compound, max_leaves=5)
thorough = settings(
    max_examples=200,
    derandomize=True,  # a suite that passed here passes elsewhere
    deadline=None,  # pydantic builds classes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestAnyContract:
    @thorough
    @given(contract=contracts, data=st.data())
    def test_without_mismatches_can_be_read(self, contract, data):
        assume(not found(contract.written, contract.read))
        value = data.draw(contract.values)

        dumped = TypeAdapter(contract.written).dump_json(value, warnings=False)

        TypeAdapter(contract.read).validate_json(dumped)
        TypeAdapter(contract.read).validate_python(json.loads(dumped))

    @thorough
    @given(contract=contracts)
    def test_has_no_mismatch_with_itself(self, contract):
        assert found(contract.written, contract.written) == []

    @thorough
    @given(contract=contracts, other=contracts)
    def test_has_no_mismatch_with_more_alternatives(self, contract, other):
        assert found(contract.written, _any_of([other.read, contract.written])) == []
