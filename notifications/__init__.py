"""E-mails to customers. Hears everything, says nothing."""
