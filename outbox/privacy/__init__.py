"""Personal data in events: mark it in declarations, mask it in displays, blank it on request."""
