"""Personal data in events: marked where declared, masked where shown, blanked on request."""
