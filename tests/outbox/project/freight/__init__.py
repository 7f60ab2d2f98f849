"""An app of the outbox's tests."""
