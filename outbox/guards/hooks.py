"""The guards that hook into Celery and into Python's sockets; installed by `start()`.

Wrappers of `Task.apply_async` and `Celery.send_task` detect the sending of tasks. The signal
`before_task_publish` would need no wrapper, but Celery only logs exceptions of its receivers and
publishes the task, and in eager mode it sends no signal.

An audit hook detects connections, also those of client libraries in C, without patching them. It
does not detect earlier connections, those of other threads, or those of database drivers in C.
Database connections are allowed anyway.
"""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Callable
from typing import Any

from outbox import guards
from outbox.conf import conf
from outbox.context import running_handler
from outbox.databases import open_aliases
from outbox.transports.celery_app import senders

from . import locks


class SentInTransaction(guards.RuleBroken):
    """A task was sent inside a transaction: it may run before the commit, or after a rollback."""


class ConnectedInTransaction(guards.RuleBroken):
    """A handler connected inside a transaction, which then holds its locks until the answer."""


_NETWORK = (socket.AF_INET, socket.AF_INET6)

_is_hooked = False


def start(*, by_default: bool | None = None) -> None:
    """Install the guards if they are on (see `guards.switch_on`). A second call changes nothing."""
    global _is_hooked
    if not guards.switch_on(by_default=by_default):
        return
    locks.watch()
    if not _is_hooked:
        _is_hooked = True  # an audit hook cannot be removed from the process
        sys.addaudithook(_check_connection)
        _wrap_celery()


def _wrap_celery() -> None:
    """Wrap the methods that send tasks, if Celery is installed."""
    for owner, method in senders():
        _wrap(owner, method, _named if method == "send_task" else _name)


def _name(task: Any, *_args: Any, **_options: Any) -> str:
    return str(task.name)


def _named(_app: Any, name: str, *_args: Any, **_options: Any) -> str:
    return str(name)


def _wrap(owner: type[Any], method: str, name_of: Callable[..., str]) -> None:
    send = getattr(owner, method)

    @functools.wraps(send)
    def guarded(*args: Any, **options: Any) -> Any:
        if guards.are_on() and not _is_stored(args, options) and open_aliases() and _is_covered():
            _refuse_to_send(name_of(*args, **options))
        return send(*args, **options)

    setattr(owner, method, guarded)


def _is_stored(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Return whether the task is an `outbox.celery.OutboxTask`, whose calls are stored."""
    task = options.get("task_type") or args[0]
    return bool(getattr(task, "stores_calls", False))


def _is_covered() -> bool:
    """Return whether a handler runs, or the project asked for this guard in all of its code."""
    return bool(running_handler()) or conf(lenient=True).GUARD_TASKS


def _refuse_to_send(task: str) -> None:
    raise SentInTransaction(
        f"{guards.user_line()}: the task {task} is sent inside a transaction. It may run before "
        "the commit, or after a rollback. Call emit() here and let a handler do the work, or send "
        "the task with transaction.on_commit()."
    )


def _check_connection(event: str, args: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not guards.are_on() or args[0].family not in _NETWORK:
        return
    handler = running_handler()
    if handler and open_aliases() and not _is_for_a_database():
        _refuse_to_connect(handler, *args[1][:2])


def _refuse_to_connect(handler: str, host: str, port: int) -> None:
    raise ConnectedInTransaction(
        f"{guards.user_line()}: {handler} connects to {host}:{port} inside a transaction, which "
        "holds its locks until the answer. Make the call in a handler with atomic=False, before "
        "`with receipt:`."
    )


def _is_for_a_database() -> bool:
    """Return whether a database backend of Django opens it: drivers in Python use sockets, too."""
    return any("/django/db/backends/" in one.f_code.co_filename for one in guards.frames())
