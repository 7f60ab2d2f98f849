from __future__ import annotations

from django_tenants.models import DomainMixin, TenantMixin


class Customer(TenantMixin):
    """A customer, with a schema of its own."""


class Domain(DomainMixin):
    """The address of a customer. django-tenants needs the model."""
