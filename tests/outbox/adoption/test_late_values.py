"""Callbacks whose values would differ if they were evaluated at the call: each is listed."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

import pytest

from .project import Project

_PK = "transaction.on_commit(lambda: send_label.delay(order.pk))"

#: Bodies of `def go(order, keys, box):`, and the reason in the list.
BODIES: Mapping[str, tuple[str, str]] = {
    "an object that another object holds": (
        "transaction.on_commit(lambda: send_label.delay(box.order.pk))\nbox.order.save()\n",
        "box may change",
    ),
    "an object in a list": (f"{_PK}\nOrder.objects.bulk_create([order])\n", "order may change"),
    "an object with another name": (f"{_PK}\nother = order\nother.save()\n", "order may change"),
    "an object in a loop over its list": (
        "transaction.on_commit(lambda: send_label.delay(keys[0].pk))\n"
        "for one in keys:\n    one.save()\n",
        "keys may change",
    ),
    "an object that is yielded": (f"{_PK}\nyield order\n", "order may change"),
    "an object in the same line": (f"{_PK}; order.save()\n", "order may change"),
    "a text of an object": (
        "transaction.on_commit(lambda: send_label.delay(str(order)))\nstore(order)\n",
        "order may change",
    ),
    "a part of a part": (
        "transaction.on_commit(lambda: send_label.delay(box['a']))\nbox['a']['b'] = 2\n",
        "box may change",
    ),
    "a list in a partial": (
        "transaction.on_commit(partial(send_label.delay, keys))\nkeys.append(1)\n",
        "keys may change",
    ),
    "a list in a parameter": (
        "transaction.on_commit(lambda k=keys: send_label.delay(k))\nkeys.append(1)\n",
        "keys may change",
    ),
    "a query that list() reads": (
        "transaction.on_commit(lambda: send_label.delay(list(keys)))\n",
        "The lambda calls list(), which may return another value",
    ),
    "a query in a comprehension": (
        "transaction.on_commit(lambda: send_label.delay([one.pk for one in keys]))\n",
        "The lambda reads a collection",
    ),
    "a variable of an inner function": (
        "pk = 1\ndef change():\n    nonlocal pk\n    pk = 2\n"
        "transaction.on_commit(lambda: send_label.delay(pk))\nchange()\n",
        "pk is assigned again",
    ),
    "a variable of a case": (
        "pk = 1\ntransaction.on_commit(lambda: send_label.delay(pk))\n"
        "match box:\n    case [pk]:\n        pass\n",
        "pk is assigned again",
    ),
    "an assignment in the lambda": (
        "transaction.on_commit(lambda: send_label.delay((pk := 7)))\n",
        "The lambda assigns a variable",
    ),
    "a parameter that is used twice": (
        "transaction.on_commit(lambda pk=make(): send_label.delay(pk, pk))\n",
        "The lambda uses its parameter pk 2 times",
    ),
    "a parameter that is not used": (
        "transaction.on_commit(lambda pk=make(): send_label.delay(1))\n",
        "The lambda uses its parameter pk 0 times",
    ),
    "a database without its name": (
        "transaction.on_commit(lambda: send_label.delay(7), 'archive')\n",
        "Its transaction is on the database 'archive'",
    ),
    "a database that is unpacked": (
        "transaction.on_commit(lambda: send_label.delay(7), **box)\n",
        "Its transaction is on the database **box",
    ),
}


#: Functions in which an object changes without its name.
FUNCTIONS: Mapping[str, tuple[str, str]] = {
    "save() of a model": (
        "class Order(Model):\n    def save(self):\n"
        "        transaction.on_commit(lambda: send_label.delay(self.pk))\n"
        "        super().save()\n",
        "self may change before the commit (line 9)",
    ),
    "a receiver of pre_save": (
        "@receiver(pre_save, sender=Order)\ndef go(instance, **rest):\n"
        "    transaction.on_commit(lambda: send_label.delay(instance.pk))\n",
        "The object instance is saved after the signal pre_save",
    ),
}


class TestAValueThatMayDiffer:
    @pytest.mark.parametrize("kind", BODIES)
    def test_is_listed(self, project: Project, kind: str):
        body, reason = BODIES[kind]
        text = f"def go(order, keys, box):\n{indent(body, '    ')}"
        project.services(text, imports="from functools import partial\n\n")
        before = project.texts()

        assert reason in project.adopt("--write")
        assert project.texts() == before

    @pytest.mark.parametrize("kind", FUNCTIONS)
    def test_of_an_object_that_changes_without_its_name_is_listed(
        self, project: Project, kind: str
    ):
        text, reason = FUNCTIONS[kind]
        project.services(text)
        before = project.texts()

        assert reason in project.adopt("--write")
        assert project.texts() == before


class TestAValueThatIsTheSame:
    @pytest.mark.parametrize(
        "later",
        [
            "return order",
            "box.save()",
            "order_id.delete()",
            "logger.info(order)",
            "store(order.customer)",
            "order.customer.save()",
            "print(order.pk)",
        ],
    )
    def test_is_changed(self, project: Project, later: str):
        project.services(f"def go(order, box, order_id):\n    {_PK}\n    {later}\n")

        project.adopt("--write")

        assert "\n    send_label.delay(order.pk)\n" in project.text()

    def test_keeps_its_order_of_evaluation(self, project: Project):
        """Seen to become `p or 1 + 1`."""
        project.services(
            "def go(p):\n    transaction.on_commit(lambda n=p or 1: send_label.delay(n + 1))\n"
        )

        project.adopt("--write")

        assert "send_label.delay((p or 1) + 1)" in project.text()
