"""A project with django-tenants: a schema for each customer, and the outbox in the public one."""
