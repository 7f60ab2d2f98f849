from __future__ import annotations

import pytest

from notifications import rendering
from notifications.models import Email


class TestKinds:
    @pytest.mark.parametrize("kind", Email.Kind)
    def test_have_a_subject_a_text_and_html(self, kind: Email.Kind):
        rendered = rendering.render(kind=kind, language="en", reference="7Q4M", context={})

        assert "7Q4M" in rendered.subject
        assert "7Q4M" in rendered.text
        assert "7Q4M" in rendered.html
