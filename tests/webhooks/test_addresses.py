"""Addresses that webhooks may call, and addresses that they never call."""

from __future__ import annotations

import socket
import ssl
import threading
from ipaddress import ip_address
from threading import Event

import httpcore
import pytest
import trustme

from tests.processes import eventually
from tests.webhooks.receiver import receiving
from webhooks import posting
from webhooks.addresses import AddressRefused, is_public, resolve

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::5db8:d70e"]

# `is_global` alone lets twelve of these through, with Python 3.13.
NEVER = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:1.1.1.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("2001:0:7f00:1::1", "3fff::1", "5f00::1"),
    *("64:ff9b:1::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1"),
    *("2002:7f00:1::1", "2002:a9fe:a9fe::", "224.0.0.1", "239.255.255.250", "ff02::1"),
    *("168.63.129.16", "192.88.99.1"),
]

REFUSED_URLS = [
    *("http://1.1.1.1/", "ftp://1.1.1.1/", "file:///etc/passwd", "//1.1.1.1/", "1.1.1.1", ""),
    *("https://", "https:///x", "https://user@1.1.1.1/", "https://user:word@1.1.1.1/"),
    *("https://@1.1.1.1/", "https://1.1.1.1/#x", "https://1.1.1.1:22/", "https://1.1.1.1:80/"),
    *("https://1.1.1.1:0/", "https://1.1.1.1:99999/", "https://1.1.1.1:x/", "https://[::1"),
    *(
        "https://1.1.1.1/\r\nX: y",
        "https://1.1.1.1/a b",
        "https://1.1.1.1\\@evil/",
        "https://é.example/",
    ),
    *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://localhost/"),
    *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
    *("https://0/", "https://[fe80::1%25eth0]/", "https://169.254.169.254/latest/meta-data/"),
    "https://1.1.1.1/" + "x" * 500,
]


def names(monkeypatch, *answers: list[str]) -> list[str]:
    """Let the resolver answer this, and the next time that."""
    asked, left, real = [], list(answers), socket.getaddrinfo

    def getaddrinfo(host, port, *args, **more):
        if host[0].isdigit():  # connecting to an address "resolves" it, too
            return real(host, port, *args, **more)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def wait_for_lookups() -> None:
    """Wait for the threads that ask the resolver. The product abandons slow ones."""
    eventually(
        lambda: all(one.name != "webhooks-lookup" for one in threading.enumerate()),
        "all look-ups have ended",
    )


class TestAnAddress:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_of_the_internet_is_public(self, address: str):
        assert is_public(ip_address(address))

    @pytest.mark.parametrize("address", NEVER)
    def test_of_another_kind_is_not_public(self, address: str):
        assert not is_public(ip_address(address))


class TestAUrl:
    def test_to_the_internet_is_allowed(self):
        assert resolve("https://1.1.1.1/hooks?a=b", seconds=60).addresses == ("1.1.1.1",)
        assert resolve("https://1.1.1.1:8443/", seconds=60).port == 8443

    @pytest.mark.parametrize("host", ["1.1.1.1", "[2606:4700:4700::1111]"])
    def test_with_an_address_needs_no_name_server(self, monkeypatch, host):
        """Seen to fail: a thread asked one, and began after the time limit on a busy machine."""
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])

        assert resolve(f"https://{host}/", seconds=0).addresses == (host.strip("[]"),)

    @pytest.mark.parametrize("url", REFUSED_URLS)
    def test_of_another_kind_is_refused(self, url: str):
        with pytest.raises((AddressRefused, OSError)):
            resolve(url, seconds=60)

    def test_is_refused_if_one_of_its_addresses_is_private(self, monkeypatch):
        """Seen to fail with `any` for `all`."""
        names(monkeypatch, ["1.1.1.1", "10.0.0.1"])

        with pytest.raises(AddressRefused):
            resolve("https://both.example/", seconds=60)

    def test_that_is_refused_does_not_reveal_our_network(self, monkeypatch):
        names(monkeypatch, ["10.9.8.7"])

        with pytest.raises(AddressRefused) as refusal:
            resolve("https://inside.example/", seconds=60)

        assert "10.9.8.7" not in str(refusal.value)

    def test_with_a_slow_name_server_fails_in_time(self, monkeypatch):
        released = Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(60) and [])
        try:
            with pytest.raises(OSError, match="cannot be resolved"):
                resolve("https://slow.example/", seconds=0.1)
        finally:
            released.set()
            wait_for_lookups()  # one that begins late would ask the next test's resolver


class TestTheListOfPrivateHosts:
    def test_allows_only_its_hosts(self, settings):
        settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]

        assert resolve("http://127.0.0.1:8123/", seconds=60).port == 8123
        for url in ("http://127.0.0.2/", "https://localhost/", "http://1.1.1.1/"):
            with pytest.raises(AddressRefused):
                resolve(url, seconds=60)


class TestANameThatChangesItsAddress:
    def test_is_called_at_the_checked_address(self, monkeypatch, settings):
        """DNS rebinding. Seen to fail with the host's name given to the connection.

        The name first has the receiver's address, which this test takes for a public one, and
        then, to whoever asks again, one where nobody listens.
        """
        settings.WEBHOOK_TIMEOUT_SECONDS = 60
        settings.WEBHOOK_PRIVATE_HOSTS = ["rebinding.example"]
        asked = names(monkeypatch, ["127.0.0.1"], ["127.0.0.99"])
        with receiving(host="rebinding.example") as receiver:
            answer = posting.post(receiver.url, body=b"{}", headers={})

            assert answer.status == 204
            assert receiver.requests[0].headers["host"].startswith("rebinding.example")
        assert asked.count("rebinding.example") == 1

    def test_is_checked_again_at_each_sending(self, monkeypatch, settings):
        names(monkeypatch, ["1.1.1.1"], ["127.0.0.1"])
        resolve("https://rebinding.example/", seconds=60)

        answer = posting.post("https://rebinding.example/", body=b"{}", headers={})

        assert answer.status is None
        assert answer.error == "The host has an address that is not public."


class TestAHostWithTwoAddresses:
    def test_is_reached_although_the_first_one_is_silent(self, monkeypatch, settings):
        """Failed: the first address got all of the time, and the second one was never tried."""
        settings.WEBHOOK_TIMEOUT_SECONDS = 60
        settings.WEBHOOK_PRIVATE_HOSTS = ["two.example"]
        names(monkeypatch, ["127.0.0.98", "127.0.0.1"])
        given, connect = {}, httpcore.SyncBackend.connect_tcp

        def connect_tcp(self, host, port, timeout=None, *args, **more):
            given[host] = timeout
            if host == "127.0.0.98":
                raise httpcore.ConnectTimeout
            return connect(self, host, port, timeout, *args, **more)

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)

        with receiving(host="two.example") as receiver:
            answer = posting.post(receiver.url, body=b"{}", headers={})

        assert answer.status == 204
        assert given["127.0.0.98"] <= 30
        assert 30 < given["127.0.0.1"] <= 60, "the last one gets the time that is left"

    def test_of_which_none_answers_is_too_slow(self, monkeypatch, settings):
        settings.WEBHOOK_PRIVATE_HOSTS = ["two.example"]
        names(monkeypatch, ["127.0.0.98", "127.0.0.99"])

        def connect_tcp(*_, **__):
            raise httpcore.ConnectTimeout

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)

        answer = posting.post("http://two.example/", body=b"{}", headers={})

        assert answer.error == "No complete answer within 10 s."


class TestTheHostHeader:
    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("https://[2606:4700:4700::1111]/hooks", "[2606:4700:4700::1111]"),
            ("https://[2606:4700:4700::1111]:8443/", "[2606:4700:4700::1111]:8443"),
            ("https://1.1.1.1:443/", "1.1.1.1"),
            ("https://1.1.1.1:8443/", "1.1.1.1:8443"),
        ],
    )
    def test_is_that_of_the_url(self, monkeypatch, url: str, host: str):
        """Failed: an IPv6 address had no brackets, and servers answered 400."""
        written = []

        class Stream(httpcore.MockStream):
            def write(self, buffer, timeout=None):
                written.append(buffer)

        def connect_tcp(*_, **__):
            return Stream([b"HTTP/1.1 204 No Content\r\n\r\n"])

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)

        assert posting.post(url, body=b"{}", headers={}).status == 204

        lines = b"".join(written).decode().split("\r\n")
        assert [one for one in lines if one.lower().startswith("host:")] == [f"Host: {host}"]


class TestTls:
    def test_verifies_the_host_name(self, monkeypatch, settings, tmp_path):
        """Seen to fail with `check_hostname` off."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        posting._tls.cache_clear()
        settings.WEBHOOK_TIMEOUT_SECONDS = 60
        settings.WEBHOOK_PRIVATE_HOSTS = ["right.example", "wrong.example"]
        names(monkeypatch, ["127.0.0.1"])

        try:
            right, wrong = (
                self.answer_of(host, authority) for host in ("right.example", "wrong.example")
            )
        finally:
            posting._tls.cache_clear()

        assert right.status == 204
        assert wrong.status is None
        assert wrong.error.startswith("TLS failed")

    def answer_of(self, host: str, authority: trustme.CA) -> posting.Answer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("right.example").configure_cert(context)
        with receiving(context, scheme="https", host=host) as receiver:
            return posting.post(receiver.url, body=b"{}", headers={})
