"""Orders and their process, from placed to received or cancelled."""
