"""Code that relay and worker share: lease, settlement, order per key, breaker, statements."""
