"""Sinks of Amazon SNS and SQS. This package alone imports boto3."""

from .sinks import SnsSink, SqsSink

__all__ = ["SnsSink", "SqsSink"]
