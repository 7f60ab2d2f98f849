"""Sink of NATS JetStream. This package alone imports nats-py."""

from .sink import NatsSink

__all__ = ["NatsSink"]
