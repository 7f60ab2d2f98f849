"""Sinks: subscriptions that publish events to external systems."""
