"""The address of a client behind proxies, and the trusted headers."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import counted_address
from api.throttling import AnonRateThrottle, UserRateThrottle
from shop.proxies import ProxyMiddleware, TrustedProxies, parsed

CLIENT = "203.0.113.7"
FORGED = "198.51.100.1"
# Google's proxies, and the address of one load balancer there.
GOOGLE = ["35.191.0.0/16", "130.211.0.0/22", "34.120.0.9"]
CLOUDFLARE = "173.245.48.0/20"

# What each sends upstream for a client that sent `X-Forwarded-For: FORGED` itself: the peer, the
# networks that the documentation has one trust, and the header.
FORMS = {
    "nginx": ("127.0.0.1", ["127.0.0.1"], f"{FORGED}, {CLIENT}"),
    "nginx with $remote_addr": ("127.0.0.1", ["127.0.0.1"], CLIENT),
    "nginx by a Unix socket": ("localhost", ["unix"], f"{FORGED}, {CLIENT}"),
    "Caddy": ("127.0.0.1", ["127.0.0.1", "::1"], CLIENT),
    "Traefik": ("172.18.0.5", ["172.18.0.0/16"], CLIENT),
    "AWS ALB": ("10.0.3.4", ["10.0.0.0/16"], f"{FORGED}, {CLIENT}"),
    "AWS ALB with the client's port": ("10.0.3.4", ["10.0.0.0/16"], f"{FORGED}, {CLIENT}:41234"),
    "Google Cloud": ("35.191.8.1", GOOGLE, f"{FORGED},{CLIENT},34.120.0.9"),
    "Azure Application Gateway": ("10.1.0.9", ["10.1.0.0/24"], f"{FORGED}, {CLIENT}:5123"),
    "Cloudflare, then nginx": (
        "127.0.0.1",
        ["127.0.0.1", CLOUDFLARE],
        f"{FORGED},{CLIENT}, 173.245.48.9",
    ),
}


def seen(peer: str, **headers: str) -> HttpRequest:
    """The request as the views see it."""
    requests: list[HttpRequest] = []

    def view(request: HttpRequest) -> HttpResponse:
        requests.append(request)
        return HttpResponse()

    names = {name.replace("_", "-"): value for name, value in headers.items()}
    ProxyMiddleware(view)(RequestFactory(REMOTE_ADDR=peer).get("/", headers=names))
    return requests[0]


@pytest.fixture
def behind(settings: Any) -> Any:
    def configure(*proxies: str) -> None:
        settings.BEHIND_PROXY, settings.TRUSTED_PROXIES = True, list(proxies)
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    return configure


class TestTheClientOf:
    @pytest.mark.parametrize("form", FORMS)
    def test_each_documented_proxy_is_the_address_in_its_header(self, behind: Any, form: str):
        peer, trusted, header = FORMS[form]
        behind(*trusted)

        request = seen(peer, X_Forwarded_For=header, X_Forwarded_Proto="https")

        assert request.META["REMOTE_ADDR"] == CLIENT
        assert request.is_secure()

    def test_a_chain_of_proxies_is_the_first_untrusted_from_the_right(self, behind: Any):
        behind("10.0.0.0/8", "192.0.2.1")

        request = seen("10.0.0.1", X_Forwarded_For=f"{FORGED}, {CLIENT}, 192.0.2.1, 10.9.9.9")

        assert request.META["REMOTE_ADDR"] == CLIENT

    def test_a_request_of_a_proxy_itself_is_the_proxy(self, behind: Any):
        behind("10.0.0.0/8")

        assert seen("10.0.0.1").META["REMOTE_ADDR"] == "10.0.0.1"

    @pytest.mark.parametrize("header", ["unknown", "", "_hidden", "1.2.3", f"{CLIENT}, unknown"])
    def test_a_proxy_without_header_is_the_proxy(self, behind: Any, header: str):
        behind("10.0.0.0/8")

        assert seen("10.0.0.1", X_Forwarded_For=header).META["REMOTE_ADDR"] == "10.0.0.1"

    def test_an_ipv4_peer_of_a_socket_for_both_is_an_ipv4_address(self, behind: Any):
        behind("10.0.0.0/8")

        assert seen("::ffff:10.0.0.1", X_Forwarded_For=CLIENT).META["REMOTE_ADDR"] == CLIENT


class TestAnUntrustedPeer:
    @pytest.mark.parametrize("trusted", [["10.0.0.0/8"], ["unix"], []])
    def test_is_the_client_and_its_headers_are_dropped(self, behind: Any, trusted: list[str]):
        behind(*trusted)

        request = seen(
            CLIENT,
            X_Forwarded_For=FORGED,
            X_Forwarded_Proto="https",
            X_Forwarded_Host="evil.example.com",
            X_Real_IP=FORGED,
            Forwarded=f"for={FORGED};proto=https",
        )

        assert request.META["REMOTE_ADDR"] == CLIENT
        assert not request.is_secure()
        assert [name for name in request.META if "FORWARDED" in name or "REAL_IP" in name] == []

    def test_is_everyone_without_configured_proxies(self, settings: Any):
        settings.BEHIND_PROXY, settings.TRUSTED_PROXIES = False, ["127.0.0.1"]

        request = seen("127.0.0.1", X_Forwarded_For=FORGED, X_Forwarded_Proto="https")

        assert request.META["REMOTE_ADDR"] == "127.0.0.1"
        assert not request.is_secure()


class TestTheScheme:
    def test_is_the_last_value_of_the_header(self, behind: Any):
        behind("10.0.0.0/8")

        request = seen("10.0.0.1", X_Forwarded_For=CLIENT, X_Forwarded_Proto="https, http")

        assert not request.is_secure()


class TestTheCountedAddress:
    def test_is_the_same_for_throttles_and_axes(self, settings: Any):
        request: Any = seen("2001:db8:1:2:3:4:5:6", X_Forwarded_For=FORGED)

        assert counted_address(request) == "2001:db8:1:2::"
        assert UserRateThrottle().get_ident(request) == "2001:db8:1:2::"
        assert AnonRateThrottle().get_ident(request) == "2001:db8:1:2::"
        assert settings.AXES_CLIENT_IP_CALLABLE == "api.addresses.counted_address"

    def test_is_the_whole_address_of_ipv4(self):
        assert counted_address(seen(CLIENT)) == CLIENT


class TestTrustedProxies:
    @pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/33", "", "*"])
    def test_that_cannot_be_parsed_prevent_the_start(self, behind: Any, text: str):
        behind(text)

        with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES has"):
            ProxyMiddleware(lambda request: HttpResponse())

    def test_contain_a_unix_socket_only_if_named(self):
        assert not TrustedProxies(["127.0.0.0/8", "::1"]).has("localhost")


class TestAnyHeader:
    @given(st.text(max_size=60), st.text(max_size=20))
    def test_gives_an_address(self, header: str, peer: str):
        assert parsed(seen(peer, X_Forwarded_For=header).META["REMOTE_ADDR"])
