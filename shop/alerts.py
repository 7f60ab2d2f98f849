"""Alerts of the shop, beside those of the outbox: the reconciliation found differences."""

from __future__ import annotations

from outbox.metrics.alerts import Alert, also

also(
    Alert(
        name="BooksNotBalanced",
        when="min(shop_books_balanced) < 1",
        says="The reconciliation found differences.",
        advice="Run manage.py reconcile, or see Reconciliations in the admin.",
    ),
    Alert(
        name="BooksNotLookedAt",
        when="time() - max(shop_books_checked_timestamp_seconds) > 10800",
        severity="ticket",
        says="The reconciliation has not run for three hours.",
        advice="Beat sends shop.reconcile each hour. Check both.",
    ),
)
