"""Admin of reconciliations: each difference is a sentence that links to its row."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shared.read_only_admin import ReadOnly
from shop import third_party_admin  # noqa: F401  importing registers them
from shop.models import Reconciliation

SUMMARY = ("checked_at", "balanced", "differences", "unsettled", "seconds")
RESULTS = ("difference_examples", "unsettled_examples", "invariants_checked")


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = SUMMARY
    list_filter = ["balanced"]
    fields = (*SUMMARY, *RESULTS)
    readonly_fields = RESULTS

    @admin.display(description=gettext_lazy("Differences"))
    def difference_examples(self, run: Reconciliation) -> SafeString | str:
        return _listed(run, "difference_examples", "differences") or _("None.")

    @admin.display(description=gettext_lazy("Unsettled"))
    def unsettled_examples(self, run: Reconciliation) -> SafeString | str:
        return _listed(run, "unsettled_examples", "unsettled") or _("None.")

    @admin.display(description=gettext_lazy("Invariants"))
    def invariants_checked(self, run: Reconciliation) -> SafeString:
        rows = ((one["rule"], f"{one['checked']:,}") for one in run.report["invariants"])
        return _list(format_html("{} ({})", *row) for row in rows)


def _listed(run: Reconciliation, key: str, number: str) -> SafeString:
    """Return the sentences of each invariant that has some, with its remedy."""
    found = (one for one in run.report["invariants"] if one[number])
    return format_html_join(
        "",
        "<p><strong>{}</strong></p>{}",
        ((_heading(one), _sentences(one, key, number)) for one in found),
    )


def _heading(one: dict[str, Any]) -> str:
    return f"{one['rule']} {one['remedy']}" if one["differences"] else str(one["rule"])


def _sentences(one: dict[str, Any], key: str, number: str) -> SafeString:
    sentences = [_linked(found) for found in one[key]]
    if more := one[number] - len(sentences):
        sentences.append(format_html("{}", _("and %(more)d more") % {"more": more}))
    return _list(sentences)


def _list(items: Any) -> SafeString:
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((i,) for i in items)))


def _linked(found: dict[str, str]) -> SafeString:
    """Return the sentence, linked to the page of its row if there is one."""
    page = f"admin:{found['model'].replace('.', '_')}_change"
    try:
        return format_html('<a href="{}">{}</a>', reverse(page, args=[found["id"]]), found["text"])
    except NoReverseMatch:
        return format_html("{}", found["text"])
