"""Clients of boto3, and the threads that run their requests."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.core.exceptions import ImproperlyConfigured

from outbox.receipt import PermanentFailure
from outbox.sinks.base import SinkUnavailable

from .errors import AwsRefusal, sink_error

with suppress(ImportError):  # reported when the sink is created
    import boto3
    import botocore.exceptions
    from botocore.config import Config

P = ParamSpec("P")
R = TypeVar("R")

#: Parallel requests of one sink. A request carries ten messages.
THREADS = 10

#: Arguments of `boto3.session.Session.client` that a sink may set.
CLIENT_OPTIONS = frozenset(
    {
        "api_version",
        "aws_access_key_id",
        "aws_account_id",
        "aws_secret_access_key",
        "aws_session_token",
        "endpoint_url",
        "region_name",
        "use_ssl",
        "verify",
    }
)
OTHER_OPTIONS = frozenset({"config", "max_bytes", "profile_name"})


class AwsClients:
    """The clients of one sink in this process. A forked child makes its own.

    Args:
        service: "sns" or "sqs".
        name: the sink's name, for errors.
        options: its OPTIONS.

    Raises:
        ImproperlyConfigured: boto3 is not installed, or an option is unknown.
    """

    def __init__(self, service: str, name: str, options: Mapping[str, Any]) -> None:
        if find_spec("boto3") is None:
            raise ImproperlyConfigured(
                f'The sink "{name}" needs boto3 (extra "aws"). Install it: pip install boto3.'
            )
        if unknown := sorted(set(options) - CLIENT_OPTIONS - OTHER_OPTIONS):
            raise ImproperlyConfigured(
                f'OPTIONS of the sink "{name}" has the unknown name "{unknown[0]}". Its names: '
                f"{', '.join(sorted(CLIENT_OPTIONS | OTHER_OPTIONS))}."
            )
        self._service = service
        self._options = options
        self._pid = 0
        self._clients: dict[float, Any] = {}
        self._threads: ThreadPoolExecutor | None = None

    def submit(
        self,
        timeout: float,
        function: Callable[Concatenate[Any, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[R]:
        """Call a function in a thread, with a client for this number of seconds.

        Raises:
            SinkUnavailable: no client can be made.
            AwsRefusal: the region is missing.
        """
        self._renew_after_fork()
        client = self._client(timeout)
        assert self._threads
        return self._threads.submit(function, client, *args, **kwargs)

    def close(self) -> None:
        """Close the connections of this process, without waiting for requests."""
        if self._threads and self._pid == os.getpid():
            self._threads.shutdown(wait=False, cancel_futures=True)
            for client in self._clients.values():
                client.close()
        self._pid = 0

    def _renew_after_fork(self) -> None:
        """Make threads for this process. The parent's clients stay open, as it uses them."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._clients = {}
            self._threads = ThreadPoolExecutor(
                THREADS, thread_name_prefix=f"outbox-{self._service}"
            )

    def _client(self, timeout: float) -> Any:
        """Return a client whose connect and read together take at most this many seconds.

        Its limits are a power of two, so that there are few clients, since each has connections
        of its own.
        """
        seconds = 2.0 ** math.floor(math.log2(max(timeout, 0.1) / 2))
        if seconds not in self._clients:
            try:
                self._clients[seconds] = self._new_client(seconds)
            except botocore.exceptions.NoRegionError:
                raise AwsRefusal(
                    'No region is configured. Set "region_name" in OPTIONS, or AWS_DEFAULT_REGION.'
                ) from None
            except (botocore.exceptions.BotoCoreError, ValueError) as error:
                raise SinkUnavailable(
                    f"No client of AWS can be made ({type(error).__name__}). "
                    "Check OPTIONS, and the profile and files of the AWS configuration."
                ) from None
        return self._clients[seconds]

    def _new_client(self, seconds: float) -> Any:
        session = boto3.session.Session(profile_name=self._options.get("profile_name"))
        given = {name: self._options[name] for name in CLIENT_OPTIONS & set(self._options)}
        config = Config(max_pool_connections=THREADS)
        config = config.merge(Config(**self._options.get("config", {})))
        limits = Config(
            connect_timeout=seconds,
            read_timeout=seconds,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        return session.client(self._service, config=config.merge(limits), **given)


def error_of(error: Exception, *, destination: str) -> Exception:
    """Return the error of a sink for one of botocore. Its text never quotes a request."""
    if isinstance(error, botocore.exceptions.ClientError):
        return _error_of_answer(error, destination=destination)
    if isinstance(error, botocore.exceptions.ParamValidationError):
        return PermanentFailure(
            f"{destination} was not called, since botocore refuses a parameter of the request. "
            "Correct TOPIC, or the sink's mapper."
        )
    kind = type(error).__name__
    if "Credential" in kind or "Token" in kind or "Unauthorized" in kind:
        return SinkUnavailable(
            f"{destination} was not called, since AWS credentials are missing, incomplete or "
            f"expired ({kind}). Set them in OPTIONS, the environment or a role."
        )
    if isinstance(error, OSError) or type(error).__module__.startswith("botocore."):
        return SinkUnavailable(
            f"{destination} cannot be reached ({kind}). Check the network, the region and "
            "endpoint_url."
        )
    return error


def _error_of_answer(error: Any, *, destination: str) -> Exception:
    answer = error.response
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(answer.get("Error", {}).get("Code", ""))
    if status in (401, 403) and not code:
        code = "AccessDenied"
    return sink_error(
        code,
        str(answer.get("Error", {}).get("Message", "")),
        destination=destination,
        sender_fault=400 <= status < 500,
        status=status,
    )
