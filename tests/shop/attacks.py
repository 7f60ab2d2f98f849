"""Requests that send each hostile value in each parameter and form field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tests.databases import kind_under_test
from tests.shop.forms import Form, forms_of
from tests.shop.hostile import VALUES, Attacker, Pairs

#: Values that databases treat differently.
_OF_A_DATABASE = (
    *("NUL", "overlong", "a negative number", "more digits than int() takes", "beyond 64 bits"),
    *("NaN", "infinity", "year 0", "year 1", "year 9999", "year 99999"),
    *("an open group", "odd text", "no UTF-8"),
)
#: All on SQLite; the rest need no second run.
KINDS = list(VALUES) if kind_under_test() == "sqlite" else list(_OF_A_DATABASE)
#: Fields by which a list learns what to do with which rows.
CHOICE = ("action", "_selected_action", "index", "select_across")
MANAGEMENT = re.compile(r".*-(TOTAL|INITIAL)_FORMS")
#: Fields that nobody reads, or Django's own code alone, in the same way for each form.
SKIPPED = re.compile(r"csrf.*|_save|_continue|_addanother|.*-(MIN|MAX)_NUM_FORMS|.*__prefix__.*")


class Asking:
    """Asks for an address with each value in each parameter, several parameters at once.

    An answer other than 200 may have looked at some of them only: then each goes alone. What a
    parameter has refused once goes alone from then on.
    """

    def __init__(self, attacker: Attacker) -> None:
        self._attacker = attacker
        self._refused: set[tuple[str, str]] = set()

    def each(
        self,
        url: str,
        names: Sequence[str],
        *,
        kinds: Sequence[str] = KINDS,
        needed: Pairs = (),
    ) -> None:
        for turn in range(len(kinds) if names else 0):
            pairs = [(name, kinds[(turn + place) % len(kinds)]) for place, name in enumerate(names)]
            shared_transaction = [
                one for one in pairs if one not in self._refused and one[1] != "NUL"
            ]
            if self._ask(url, shared_transaction, needed) or len(shared_transaction) == 1:
                pairs = [one for one in pairs if one not in shared_transaction]
            self._refused |= {one for one in pairs if not self._ask(url, [one], needed)}

    def takes(self, url: str, name: str) -> bool:
        """Whether a parameter takes any text."""
        return self._ask(url, [(name, "an open group")], ())

    def _ask(self, url: str, pairs: Sequence[tuple[str, str]], needed: Pairs) -> bool:
        query = [*needed, *((name, VALUES[kind]) for name, kind in pairs)]
        return bool(self._attacker.ask(url, query, of=str(pairs)).status_code == 200)


class Filling:
    """Fills in forms, and those that they lead to: first all fields hostile, then each alone.

    A field need not go alone that the form has refused, or has taken with all others; and once for
    the forms of a model.
    """

    def __init__(self, attacker: Attacker) -> None:
        self.seen: set[object] = set()
        self._attacker = attacker

    def take(self, form: Form) -> None:
        fields = tuple(sorted(name for name in form.fields if not SKIPPED.fullmatch(name)))
        shape = (form.model, form.action, fields)
        if form.method != "POST" or shape in self.seen:
            return
        self.seen.add(shape)
        answer = self._attacker.give(form.url, form.pairs(), of="as it is")
        if answer.status_code == 403:  # the form of a page where nothing is to be saved
            return
        if form.action:
            self._give_once(form, ["_selected_action"], of=form.model)
            self._give_once(form, CHOICE, of="choice")
        self._give_once(form, filter(MANAGEMENT.fullmatch, fields), of="formsets")
        is_own = [name for name in fields if name not in CHOICE and not MANAGEMENT.fullmatch(name)]
        self._fill(form, is_own)
        if answer.status_code == 200:
            for following in forms_of(answer.content.decode(), form.url):
                self.take(following)

    def _give_once(self, form: Form, names: Iterable[str], *, of: str) -> None:
        """Send each value in fields that Django's own code reads, the same for all forms."""
        names = list(names)
        if names and of not in self.seen:
            self.seen.add(of)
            for name in names:
                for kind in KINDS:
                    self._give(form, {name: kind})

    def _fill(self, form: Form, names: Sequence[str]) -> None:
        new = {name for name in names if (form.model, name) not in self.seen}
        self.seen |= {(form.model, name) for name in names}
        for turn in range(len(KINDS) if names else 0):
            pairs = {name: KINDS[(turn + place) % len(KINDS)] for place, name in enumerate(names)}
            shared_transaction = {name: kind for name, kind in pairs.items() if kind != "NUL"}
            done = self._done_with(self._give(form, shared_transaction), shared_transaction)
            for name in new:
                if not done & {name, name.rpartition("_")[0]}:
                    self._give(form, {name: pairs[name]})

    def _done_with(self, answer: Any, sent: Iterable[str]) -> set[str]:
        if answer.status_code == 302:
            return set(sent)
        context = getattr(answer, "context_data", None) or {}
        shown = context.get("form") or getattr(context.get("adminform"), "form", None)
        if shown is None:
            return set()
        return set(shown.errors) if shown.is_bound else set(sent)

    def _give(self, form: Form, pairs: Mapping[str, str]) -> Any:
        kept = [(name, value) for name, value in form.pairs() if name not in pairs]
        sent = [(quote(name), VALUES[kind]) for name, kind in pairs.items()]
        return self._attacker.give(form.url, [*kept, *sent], of=f"{form.action} {pairs}")


def is_there(attacker: Attacker, url: str) -> bool:
    return bool(attacker.ask(url).status_code == 200)


def forms_at(attacker: Attacker, url: str) -> list[Form]:
    answer = attacker.ask(url)
    return forms_of(answer.content.decode(), url) if answer.status_code == 200 else []
