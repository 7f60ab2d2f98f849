"""E-mails to customers. Subscribes to orders and payments; emits only its own resend requests."""
