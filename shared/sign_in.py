"""The rule that both sign-in forms share: no name is longer than a user's."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxLengthValidator


class ShortNameMixin:
    """Refuses a name that is longer than any user's. Put it before Django's form.

    Django limits only its input field. django-axes stores the name of each failed login, and
    PostgreSQL refuses one of more than 255 characters, which would be a 500.
    """

    fields: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = self.fields["username"]
        name.validators.append(MaxLengthValidator(name.max_length))
