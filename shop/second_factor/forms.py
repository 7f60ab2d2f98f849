"""The form of the second factor's pages."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from .services import normalized


class CodeInput(forms.PasswordInput):
    """A field with readable digits, which is empty again after a wrong code."""

    input_type = "text"


class CodeForm(forms.Form):
    """A code of the authenticator, or a recovery code.

    Attributes:
        wait: seconds until the next code is checked, after too many wrong ones.
    """

    wait = 0

    code = forms.CharField(
        label=_("Code"),
        max_length=32,
        widget=CodeInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )

    def clean_code(self) -> str:
        """Return the code in its stored form."""
        return normalized(self.cleaned_data["code"])
