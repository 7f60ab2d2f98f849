"""The worker: start a message's deliveries, call the handler, store the receipt or the failure."""
