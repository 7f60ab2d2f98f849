"""Packet filters of a host's link, for `tc`: classic BPF, which needs no program but iproute2's.

A filter reads a frame and returns an action of tc. The numbers are those of linux/filter.h (the
instructions), linux/pkt_cls.h (the actions) and RFC 826 (the type of ARP).
"""

from __future__ import annotations

import ipaddress

_PASS, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC: the next filter decides; TC_ACT_SHOT
_LOAD_HALF, _LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_LESS, _RETURN = 0x28, 0x20, 0x15, 0xA5, 0x06
_ETHER_TYPE, _DESTINATION = 12, 30  # offsets in a frame
_ARP, _IPV4 = 0x0806, 0x0800
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM


def everything() -> str:
    """Drop each packet but ARP, so that the sender finds the neighbour, and no answer."""
    return _code(
        (_LOAD_HALF, 0, 0, _ETHER_TYPE),
        (_JUMP_IF_EQUAL, 0, 1, _ARP),
        (_RETURN, 0, 0, _PASS),
        (_RETURN, 0, 0, _DROP),
    )


def to(address: str) -> str:
    """Drop packets to an address."""
    return _code(
        (_LOAD_HALF, 0, 0, _ETHER_TYPE),
        (_JUMP_IF_EQUAL, 0, 3, _IPV4),
        (_LOAD_WORD, 0, 0, _DESTINATION),
        (_JUMP_IF_EQUAL, 0, 1, int(ipaddress.IPv4Address(address))),
        (_RETURN, 0, 0, _DROP),
        (_RETURN, 0, 0, _PASS),
    )


def some(percent: float) -> str:
    """Drop this share of all packets but ARP, at random."""
    return _code(
        (_LOAD_HALF, 0, 0, _ETHER_TYPE),
        (_JUMP_IF_EQUAL, 3, 0, _ARP),
        (_LOAD_WORD, 0, 0, _RANDOM),
        (0x35, 1, 0, int(percent / 100 * 0xFFFFFFFF)),  # jump if greater or equal
        (_RETURN, 0, 0, _DROP),
        (_RETURN, 0, 0, _PASS),
    )


def _code(*instructions: tuple[int, int, int, int]) -> str:
    """Return instructions as tc takes them: their number, and four figures for each."""
    lines = [" ".join(map(str, one)) for one in instructions]
    return ",".join([str(len(lines)), *lines])
