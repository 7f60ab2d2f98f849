"""How dispatched deliveries reach workers."""
