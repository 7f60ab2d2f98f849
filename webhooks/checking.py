"""Look up the host of an endpoint's URL, in a worker: a name server may be slow, or hang.

The result is shown to the owner as the endpoint's `url_state`. It protects nobody: each sending
resolves the name again, and checks each of its addresses.
"""

from __future__ import annotations

from uuid import UUID

from outbox import Receipt, emit
from webhooks.addresses import AddressRefused, resolve
from webhooks.events import EndpointDisabled
from webhooks.models import Endpoint

#: Seconds that a look-up may take.
LOOKUP_SECONDS = 5.0
#: Seconds for the look-up, and for what is read and written around it.
LEASE_SECONDS = 30.0

UrlState = Endpoint.UrlState


def check(*, endpoint_id: UUID, receipt: Receipt) -> None:
    """Check the URL unless somebody has, with no transaction open while the resolver is asked."""
    endpoint = Endpoint.objects.filter(pk=endpoint_id, url_state=UrlState.UNCHECKED).first()
    if endpoint is None:
        with receipt:
            return
    state, why = _looked_up(endpoint.url)
    with receipt:
        _record(endpoint_id, url=endpoint.url, state=state, why=why)


def _looked_up(url: str) -> tuple[Endpoint.UrlState, str]:
    try:
        resolve(url, seconds=LOOKUP_SECONDS)
    except AddressRefused as refusal:
        return UrlState.REFUSED, str(refusal)
    except OSError as error:
        return UrlState.UNRESOLVED, str(error)
    return UrlState.ALLOWED, ""


def _record(endpoint_id: UUID, *, url: str, state: Endpoint.UrlState, why: str) -> None:
    try:
        endpoint = Endpoint.objects.locked(endpoint_id)
    except Endpoint.DoesNotExist:  # removed meanwhile
        return
    if endpoint.url != url or endpoint.url_state != UrlState.UNCHECKED:
        return  # changed meanwhile, which has a check of its own
    endpoint.url_state = state
    if state is UrlState.REFUSED and endpoint.enabled:
        endpoint.disable(because=Endpoint.Disabled.REFUSED, note=why)
        emit(EndpointDisabled(endpoint_id=endpoint.pk, because=Endpoint.Disabled.REFUSED))
    endpoint.save()
