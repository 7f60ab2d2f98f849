"""Counts of events and deliveries, at a cost independent of the stored rows."""
