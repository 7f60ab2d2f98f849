"""Products, prices, stock and reservations."""
