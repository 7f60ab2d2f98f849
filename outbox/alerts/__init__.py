"""Alerts without Prometheus: messages about problems by e-mail, webhook or a function of yours.

A function of `OUTBOX["ALERTS"]["CHANNELS"]` receives an `AlertMessage`.
"""

from .messages import AlertMessage

__all__ = ["AlertMessage"]
