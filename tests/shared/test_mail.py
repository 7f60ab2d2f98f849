"""Addresses and texts that may be passed to a mail server."""

from __future__ import annotations

import pytest

from shared.mail import is_sendable, printable

SENDABLE = [
    "a@example.com",
    "name+tag@sub.example.co.jp",
    "o'neil@example.com",
    "A.B@EXAMPLE.COM",
    "a@b\u00fccher.example",
    "a@xn--bcher-kva.example",
    "a@\u4f8b\u3048.jp",
    "x" * 64 + "@example.com",
]
NOT_SENDABLE = {
    "nothing": "",
    "no domain": "a@",
    "no local part": "@example.com",
    "no address": "nobody",
    "a host without a domain": "a@com",
    "a quoted name": '"a b"@example.com',
    "a quoted name that clears a screen": '"\x1b[2J"@example.com',
    "this machine": "a@localhost",
    "this machine in capitals": "a@LOCALHOST",
    "a name of this machine": "a@mail.localhost",
    "an IPv4 address": "a@[127.0.0.1]",
    "an IPv6 address": "a@[IPv6:::1]",
    "an IPv4 address as a name": "a@127.0.0.1",
    "an IPv4 address of two-digit parts": "a@10.10.10.10",
    "a link-local network": "a@mail.local",
    "a private network": "a@mail.internal",
    "a reversed address": "a@1.0.0.127.in-addr.arpa",
    "a hidden service": "a@mail.onion",
    "an escape": "a\x1b[2J@example.com",
    "a header": "a@example.com\r\nBcc: b@example.com",
    "a line feed at the end": "a@example.com\n",
    "a NUL": "a@example.com\0",
    "a domain that is turned round": "a@exam\u202eple.com",
    "a domain with a hidden space": "a@exa\u200bmple.com",
    "a name that looks like another": "\u212a@example.com",
    "two addresses": "a@example.com,b@example.com",
    "an address with a name": "A <a@example.com>",
    "a long name": "x" * 65 + "@example.com",
    "a long label": "a@" + "x" * 64 + ".com",
    "a long address": "a@" + "x." * 130 + "com",
    "an empty label": "a@example..com",
}


class TestAnAddress:
    @pytest.mark.parametrize("address", SENDABLE)
    def test_on_the_internet_is_sendable(self, address: str):
        assert is_sendable(address)

    @pytest.mark.parametrize("address", NOT_SENDABLE.values(), ids=list(NOT_SENDABLE))
    def test_outside_of_the_internet_is_not_sendable(self, address: str):
        assert not is_sendable(address)


class TestAText:
    def test_keeps_its_lines_and_letters(self):
        text = "\u5c71\u7530\u3000\u592a\u90ce\n\tO'Neil \u2013 \u20ac \U0001f375"

        assert printable(text) == text

    @pytest.mark.parametrize("control", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2028", "\0"])
    def test_loses_control_characters(self, control: str):
        assert printable(f"a{control}[2Jb") == "a\ufffd[2Jb"
