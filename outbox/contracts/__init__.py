"""Contracts between events and handlers across releases: schema, versions, catalogue."""
