"""OutboxTask: the base of Celery tasks that are sent if and only if a transaction commits.

@shared_task(base=OutboxTask)
def send_label(parcel_id: int) -> None: ...

with transaction.atomic():
    parcel.save()
    send_label.delay(parcel.pk)     # stored with the parcel, or not at all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import uuid
from celery.contrib.django.task import DjangoTask
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from outbox import clock, databases, tenants
from outbox.databases import is_open
from outbox.deliveries.subscribed import has_subscription
from outbox.deliveries.transient_errors import retry_transient
from outbox.emission import emit

from .context import follows, tenant_after, tenant_of
from .options import refuse_large, stored_arguments, stored_options

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from outbox.events import DomainEvent

    _Task = DjangoTask[Any, Any]
else:
    _Task = DjangoTask  # Celery's classes have no type parameters


class OutboxTask(_Task):
    """A Celery task whose calls are stored in the caller's transaction, and sent after its commit.

    Use it as `base=` of `shared_task` or `app.task`. `delay()` and `apply_async()` store the event
    `outbox.CeleryTaskCalled`. The handler `outbox.send_tasks` then sends the task, at least once.
    Every repeated message has the same task id. Without an open transaction the call is stored at
    once, in a transaction of its own.

    `retry()` sends at once, as Celery does: the exception of a retry may roll back a transaction
    that is open around it. With the setting `task_always_eager`, `apply()` or a direct call, the
    task runs where it is called.

    Attributes:
        max_bytes: most bytes of the arguments and options of a call, as JSON.
    """

    serializer = "json"
    max_bytes: int = 256 * 1024

    #: The guards allow calls of such a task in a transaction.
    stores_calls: ClassVar[bool] = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, within the tenant of its stored call."""
        request: Any = self.request
        if request.called_directly or request._protected:  # a call by other code, or by its own
            return super().__call__(*args, **kwargs)
        request._protected = 1
        try:
            with tenant_of(request.headers):
                return self.run(*args, **kwargs)
        finally:
            request.outbox_has_run = True

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Store the call in the open transaction, or in one of its own.

        Args:
            args: positional arguments, which must be JSON values or types of kombu's JSON.
            kwargs: keyword arguments, as `args`.
            task_id: id of the task. Default: a new UUID.
            producer: ignored: the task is sent later.
            link: signatures of tasks to send after a success, as in Celery.
            link_error: signatures of tasks to send after a failure, as in Celery.
            shadow: name of the task in logs of Celery.
            options: other options of Celery's `apply_async`. `countdown` and `eta` delay the event,
                and not the message. `expires` counts from this call.

        Returns:
            The result with the id of the task. Its `get()` returns only after the commit.

        Raises:
            RefusedOption: an option cannot be kept until the commit.
            TypeError: the arguments do not fit the task, or are not JSON.
            ValueError: the call is too large, or a value cannot be stored in every database.
            ImproperlyConfigured: the sender has no subscription: `migrate` has not run.
        """
        app = self.app
        if options.get("retries") or app.conf.task_always_eager:
            return super().apply_async(
                args, kwargs, task_id, producer, link, link_error, shadow, **options
            )
        self._check_arguments(args or (), kwargs or {})
        name_of: Any = self.shadow_name  # a task may override it; the stubs return None
        shadow = shadow or name_of(args, kwargs, options)
        of_task: Any = getattr(self, "_get_exec_options")()  # noqa: B009  the stubs lack it
        given = {**of_task, "ignore_result": self.ignore_result}
        given |= {**options, "link": link, "link_error": link_error, "shadow": shadow}
        task_id = str(task_id or uuid())
        parent: Any = app.current_worker_task
        parent_id = given.get("parent_id")
        options = {**_ancestors(app), **given}
        tenant = tenant_after(parent, parent_id)
        store = partial(self._store, task_id, args or (), kwargs or {}, options, tenant=tenant)
        if follows(parent, parent_id) and not parent.request.is_eager:
            _run_with_retries(store)
        else:
            store()
        return self._result(task_id, is_ignored=bool(given["ignore_result"]))

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Store the call now, as `delay()`: it is sent after the commit in any case."""
        return self.delay(*args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Store the call now, as `apply_async()`: it is sent after the commit in any case."""
        return self.apply_async(*args, **options)

    def _check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not isinstance(args, list | tuple):
            raise TypeError(f"{self.name}: args is a {type(args).__name__}. Pass a list or tuple.")
        if not isinstance(kwargs, Mapping):
            raise TypeError(f"{self.name}: kwargs is a {type(kwargs).__name__}. Pass a dict.")
        header = getattr(self, "__header__", None)
        if self.typing and header is not None:
            header(*args, **kwargs)

    def _store(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        tenant: str | None,
    ) -> None:
        from .events import CeleryTaskCalled  # its name needs the loaded apps

        dump = getattr(self, "_dump_pydantic_arguments", None)  # from Celery 5.7 on
        if dump is not None:
            args, kwargs = dump(args, kwargs)
        now, zone = clock.now(using=databases.for_emit()), self.app.timezone
        stored = stored_options(self.name, options, now=now, zone=zone)
        ordered, named = stored_arguments(self.name, self.run, args, kwargs)
        parts = (ordered, named, stored.plain, stored.embedded)
        refuse_large(self.name, parts, most=self.max_bytes)
        event = CeleryTaskCalled(
            task=self.name,
            task_id=task_id,
            args=ordered,
            kwargs=named,
            options=stored.plain,
            embedded=stored.embedded,
        )
        _emit(event, delay=stored.delay, tenant=tenant)

    def _result(self, task_id: str, *, is_ignored: bool) -> AsyncResult[Any]:
        result = self.AsyncResult(task_id)
        result.ignored = is_ignored
        parent = self.app.current_worker_task
        if parent is not None:
            parent.add_trail(result)
        return result


def _run_with_retries(store: Callable[[], None]) -> None:
    """Store a call that Celery makes after a task's body: nobody would repeat it.

    During an outage of the database it waits, as the outbox's workers do. A call whose commit got
    no answer may be stored twice, with the same task id.
    """
    using = databases.for_emit()
    if is_open(connections[using]):  # the code that opened it repeats it
        store()
    else:
        retry_transient(store, using=using)


def _emit(event: DomainEvent, *, delay: timedelta | None, tenant: str | None) -> None:
    from .sending import HANDLER  # it imports the event

    using = databases.for_emit()
    with nullcontext() if is_open(connections[using]) else transaction.atomic(using=using):
        if not has_subscription(HANDLER, event.event_name, using=using):
            raise ImproperlyConfigured(
                f"The handler {HANDLER} has no subscription, so no worker would send tasks with "
                "the base OutboxTask. Run `manage.py migrate` with Celery installed."
            )
        with tenants.given(tenant):
            emit(event, delay=delay)


def _ancestors(app: Any) -> dict[str, Any]:
    """Return the ids of the running task, of which Celery makes trees of tasks."""
    parent = app.current_worker_task
    if parent is None:
        return {}
    request = parent.request
    return {"root_id": request.root_id or request.id, "parent_id": request.id}
