"""Staff view, disable and enable endpoints; secrets are never shown."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from webhooks import services
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db
LIST = reverse("admin:webhooks_endpoint_changelist")


@pytest.fixture
def staff(client):
    client.force_login(User.objects.create_superuser("staff"))
    return client


def act(client, endpoint: Endpoint, action: str, reason: str = ""):
    given = {"action": action, "reason": reason, "_selected_action": [str(endpoint.pk)]}
    client.post(LIST, given)
    endpoint.refresh_from_db()


class TestTheAdmin:
    def test_disables_with_a_reason_and_enables(self, staff, endpoint):
        act(staff, endpoint, "disable")
        assert endpoint.enabled  # without a reason nothing happens

        act(staff, endpoint, "disable", "floods us")
        assert (endpoint.disabled_because, endpoint.disabled_note) == ("by_staff", "floods us")

        act(staff, endpoint, "enable")
        assert endpoint.enabled

    def test_shows_no_secret(self, staff, endpoint):
        """Seen to fail with a secret that is not `editable=False`."""
        old = endpoint.secret
        new = services.rotate_secret(endpoint_id=endpoint.pk).secret

        page = staff.get(reverse("admin:webhooks_endpoint_change", args=[endpoint.pk]))
        listed = staff.get(LIST)

        assert page.status_code == 200
        for text in (page.content.decode(), listed.content.decode()):
            assert old not in text
            assert new not in text

    def test_explains_the_state_and_the_last_error(self, staff, endpoint):
        """Failed: staff saw "refused" and an empty error, without a next step."""
        page = staff.get(reverse("admin:webhooks_endpoint_change", args=[endpoint.pk]))

        shown = page.content.decode()
        assert "If the URL is refused, the endpoint is disabled" in shown
        assert "of the last failed delivery or look-up of the host" in shown

    def test_requires_the_permission_for_actions(self, client, endpoint):
        from django.contrib.auth.models import Permission

        viewer = User.objects.create_user("viewer", is_staff=True)
        viewer.user_permissions.add(Permission.objects.get(codename="view_endpoint"))
        client.force_login(viewer)

        act(client, endpoint, "disable", "because")

        assert endpoint.enabled

    @pytest.mark.parametrize("model", ["endpoint", "message", "attempt"])
    def test_shows_read_only_lists(self, staff, endpoint, model):
        services.ping(endpoint_id=endpoint.pk)

        assert staff.get(reverse(f"admin:webhooks_{model}_changelist")).status_code == 200
        assert staff.get(reverse(f"admin:webhooks_{model}_add")).status_code == 403
