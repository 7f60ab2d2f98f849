"""Routing of requests to rules: paths, fields, idempotency."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import faults, ledger, notices, statements
from .answers import Answer, ConnectionDropped, Refusal
from .faults import Fault
from .notices import Subscriber
from .storage import answer_once, reading, remembered, writing

MOST = 999_999_999_999
Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """The parts of an HTTP request that the bank uses."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Json = field(default_factory=dict)
    idempotency_key: str = ""

    @property
    def fingerprint(self) -> str:
        """Return a text that identifies method, path and body, regardless of the order of keys."""
        text = json.dumps([self.method, self.path, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class BankOptions:
    """Settings of the bank's behaviour.

    Attributes:
        slow_seconds: how long a slow request takes.
        processing_seconds: how long any request may take; what is not stored by then never will
            be.
        key_life: how long an idempotency key is remembered.
        subscriber: the receiver of notices.
    """

    slow_seconds: float = 2.0
    processing_seconds: float = 60.0
    key_life: timedelta = timedelta(hours=24)
    subscriber: Subscriber | None = None


class Bank:
    """The whole API as one call: `answer(request)`. Safe to share between threads."""

    def __init__(self, file: Path, options: BankOptions) -> None:
        self._file = file
        self._bank_options = options
        self._operations: list[tuple[re.Pattern[str], Callable[..., Answer]]] = [
            (re.compile(r"/v1/authorizations"), self._authorize),
            (re.compile(r"/v1/authorizations/(?P<authorization_id>\w+)/capture"), self._capture),
            (re.compile(r"/v1/authorizations/(?P<authorization_id>\w+)/void"), self._void),
            (re.compile(r"/v1/captures/(?P<capture_id>\w+)/refunds"), self._refund),
        ]

    def answer(self, request: Request) -> Answer:
        """Return the answer; raise `Refusal` or `ConnectionDropped`."""
        if request.method == "POST":
            return self._post(request)
        with reading(self._file) as connection:
            if request.path == "/v1/authorizations":
                return statements.find(connection, reference=_text(request.query, "reference"))
            if request.path == "/v1/charges":
                return statements.charges(connection, reference=request.query.get("reference"))
            if request.path == "/v1/notices":
                return notices.owed(connection)
        raise _no_such_path(request)

    def _post(self, request: Request) -> Answer:
        for pattern, operation in self._operations:
            if match := pattern.fullmatch(request.path):
                return operation(request, **match.groupdict())
        raise _no_such_path(request)

    def _authorize(self, request: Request) -> Answer:
        wanted = {
            "reference": _text(request.body, "reference"),
            "payment_method": _text(request.body, "payment_method"),
            **_money(request.body),
        }
        fault = faults.fault_for("authorize", wanted["payment_method"])
        return self._once(request, fault, ledger.authorize, **wanted)

    def _capture(self, request: Request, authorization_id: str) -> Answer:
        wanted = {"authorization_id": authorization_id, **_money(request.body)}
        fault = self._fault_for("capture", authorization_id)
        return self._once(request, fault, ledger.capture, **wanted)

    def _void(self, request: Request, authorization_id: str) -> Answer:
        fault = self._fault_for("void", authorization_id)
        return self._once(request, fault, ledger.void, authorization_id=authorization_id)

    def _refund(self, request: Request, capture_id: str) -> Answer:
        wanted = {"capture_id": capture_id, "key": _key(request), **_money(request.body)}
        return self._once(request, self._fault_for("refund", capture_id), ledger.refund, **wanted)

    def _fault_for(self, operation: str, id_: str) -> Fault:
        with reading(self._file) as connection:
            return faults.fault_for(operation, faults.method_of(connection, operation, id_))

    def _once(
        self, request: Request, fault: Fault, operation: Callable[..., Answer], **wanted: Any
    ) -> Answer:
        deadline = time.monotonic() + self._bank_options.processing_seconds
        key, notice = _key(request), ""
        if fault.name and not self._is_remembered(request):
            self._apply_fault(fault, key)
        with writing(self._file) as connection:
            if time.monotonic() > deadline:
                return faults.too_long()
            answer = answer_once(
                *(connection, key, request.fingerprint, lambda: operation(connection, **wanted)),
                key_life=self._bank_options.key_life,
            )
            if not answer.is_replayed and self._bank_options.subscriber:
                kind = operation.__name__
                notice = notices.note(connection, kind, answer, self._bank_options.subscriber)
        self._send_notice_first(notice)
        if fault.name in faults.AFTER_SUCCESS and not answer.is_replayed:
            self._delay_answer(fault)
        return answer

    def _send_notice_first(self, notice: str) -> None:
        subscriber = self._bank_options.subscriber
        if notice and subscriber and subscriber.first:
            notices.send(self._file, subscriber, notice)

    def _is_remembered(self, request: Request) -> bool:
        with reading(self._file) as connection:
            answer = remembered(
                *(connection, _key(request), request.fingerprint),
                key_life=self._bank_options.key_life,
            )
        return answer is not None

    def _apply_fault(self, fault: Fault, key: str) -> None:
        """Apply the fault before the work."""
        if fault.name == "slow":
            time.sleep(fault.seconds(self._bank_options.slow_seconds))
        if not fault.is_counted:
            return
        with writing(self._file) as connection:
            is_due = faults.is_due(connection, fault, key)
        if is_due and fault.name == "stuck":
            time.sleep(self._bank_options.processing_seconds + 0.01)
        elif is_due:
            faults.fail(fault)

    def _delay_answer(self, fault: Fault) -> None:
        if fault.name == "hangs_up_after_success":
            raise ConnectionDropped
        time.sleep(fault.seconds(self._bank_options.slow_seconds))


def _key(request: Request) -> str:
    if not 1 <= len(request.idempotency_key) <= 255:
        message = "Every POST needs an Idempotency-Key of 1 to 255 characters."
        raise Refusal(400, "idempotency_key_missing", message)
    return request.idempotency_key


def _text(fields: Json, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not (1 <= len(value) <= 200 and value.isprintable()):
        message = f"{name} must be a text of 1 to 200 printable characters."
        raise Refusal(400, "invalid_field", message)
    return value


def _money(fields: Json) -> Json:
    amount, currency = fields.get("amount"), fields.get("currency")
    if type(amount) is not int or not 1 <= amount <= MOST:
        message = f"amount must be an integer from 1 to {MOST}, in minor units."
        raise Refusal(400, "invalid_field", message)
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency):
        raise Refusal(400, "invalid_field", "currency must be an ISO 4217 code, such as JPY.")
    return {"amount": amount, "currency": currency}


def _no_such_path(request: Request) -> Refusal:
    return Refusal(404, "not_found", f"There is no {request.method} {request.path}.")
