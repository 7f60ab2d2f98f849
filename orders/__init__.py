"""Orders and the process that carries each from placed to received, or to cancelled."""
