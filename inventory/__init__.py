"""Products, their prices and stock, and what is set aside for which order."""
