"""Checks of the certificate of Celery's broker, by `manage.py check --deploy`. The messages:

W074 no certificate of the broker is verified
W075 a certificate of the broker for another host is accepted

Each URL is read by kombu, as it is for a connection. A broker on this host is not examined, and
neither is a transport of the project's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from ssl import CERT_NONE
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from outbox.lost_hosts import is_remote
from outbox.transports.names import celery_in_use

#: The first release of redis-py that compares the host by default.
_COMPARES_HOSTS = 6


@register("outbox", deploy=True)
def check_broker_certificates(**_kwargs: Any) -> list[CheckMessage]:
    """Find a broker on another host that is trusted without a certificate for that host."""
    app = celery_in_use()
    if app is None:
        return []
    found = list[CheckMessage]()
    try:
        for connection in (app.connection_for_read(), app.connection_for_write()):
            for url in connection.alt or [None]:
                if url is not None:
                    connection.switch(url)
                found += [one for one in _of_host(connection) if one not in found]
    except Exception:  # the URL or its options are invalid: the doctor and each process name them
        return found
    return found


def _of_host(connection: Any) -> list[CheckMessage]:
    examine = _EXAMINE.get(connection.get_transport_cls().__module__)
    is_sentinel = connection.transport_cls == "sentinel"  # it names a primary on another host
    if examine is None or not (is_sentinel or is_remote(connection.hostname or "")):
        return []
    return examine(connection)


def _of_redis(connection: Any) -> list[CheckMessage]:
    options = connection.ssl
    if not options:
        return []
    step = (
        "Add ?ssl_cert_reqs=required&ssl_check_hostname=true to the URL of the broker, and "
        "&ssl_ca_certs=/path/ca.pem for an authority of your own."
    )
    if not isinstance(options, Mapping):
        return [_unverified("kombu ignores broker_use_ssl = True for Redis, and uses no TLS", step)]
    if options.get("ssl_cert_reqs", "required") in (None, "none", CERT_NONE):
        return [_unverified("kombu accepts any certificate of this Redis", step)]
    by_default = int(version("redis").partition(".")[0]) >= _COMPARES_HOSTS
    return [] if options.get("ssl_check_hostname", by_default) else [_other_host(step)]


def _of_rabbitmq(connection: Any) -> list[CheckMessage]:
    options = connection.ssl or connection.transport_cls == "amqps"
    if not options:
        return []
    step = (
        'Set broker_use_ssl = {"server_hostname": "rabbitmq.example.com"}, with the name in the '
        'certificate, and "ca_certs" for an authority of your own. Several nodes need one name '
        "that all their certificates have."
    )
    given = options if isinstance(options, Mapping) else {}
    if context := given.get("context"):
        return [] if context.get("check_hostname") else [_other_host(step)]
    if "server_hostname" in given:
        return []
    if given.get("cert_reqs") == CERT_NONE:
        return [_unverified("py-amqp accepts any certificate of this RabbitMQ", step)]
    return [_other_host(step)]


#: By the module of the transport: a class of the project's own may verify more.
_EXAMINE: Mapping[str, Callable[[Any], list[CheckMessage]]] = {
    "kombu.transport.redis": _of_redis,
    "kombu.transport.pyamqp": _of_rabbitmq,
}


def _unverified(cause: str, step: str) -> CheckMessage:
    text = f"{cause}. An attacker between the hosts can read its password and all messages."
    return Warning(text, hint=step, obj="settings", id="outbox.W074")


def _other_host(step: str) -> CheckMessage:
    text = (
        "Celery does not check for which host the broker's certificate is. An attacker between the "
        "hosts, with a certificate of the same authority for another host, can read the password."
    )
    return Warning(text, hint=step, obj="settings", id="outbox.W075")
