"""E-mails to customers. Hears everything; says only that one is to be sent again."""
