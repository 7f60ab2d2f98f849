"""A stand-in for the part of Stripe's HTTP API that our adapter speaks: a server on loopback.

Form-encoded requests, PaymentIntents with manual capture, refunds, search by metadata, errors, and
idempotency keys that store the first answer. We wrote it; Stripe itself may differ. Its payment
methods have the names of the simulated bank's, so that both keep the same contract tests.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

FAILED_REFUND = {"failed", "canceled"}
KEY, LIVE_KEY = "sk_test_stand_in", "sk_live_stand_in"
SLOW_SECONDS = 1.0
#: The most objects of a list within another object, and of a page if the request does not say so.
LISTED = 10
SMALLEST_AMOUNT = 50
#: Codes and more of the errors about payment methods that are refused.
REFUSED_METHODS: dict[str, tuple[str | None, dict[str, str]]] = {
    "tok_nonsense": ("resource_missing", {"param": "payment_method"}),
    "tok_used_before": (None, {"message": "It was used before. It may not be used again."}),
    "tok_no_card": ("payment_method_unactivated", {"param": "payment_method"}),
    "tok_of_live_mode": (
        "resource_missing",
        {"param": "payment_method", "message": "No; a similar object exists in live mode."},
    ),
    "tok_of_test_mode": (
        "resource_missing",
        {"param": "payment_method", "message": "No; a similar object exists in test mode."},
    ),
    "tok_test_id": (
        None,
        {"message": "You cannot use the test ID 'tok_test_id' in livemode."},
    ),
}


class StripeError(Exception):
    def __init__(self, status: int, type_: str, code: str | None, **more: Any) -> None:
        super().__init__(code)
        error = {"type": type_, "code": code, "message": f"No: {code}.", **more}
        self.answer = (status, {"error": error})


class Books:
    """All that happened, in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._intents: dict[str, Json] = {}
        self._methods: dict[str, str] = {}
        self.refunds: list[Json] = []
        #: The status of refunds from now on.
        self.state_of_refunds = "succeeded"
        #: The most objects of a page, whatever the request says.
        self.longest_page = 100
        self._answers: dict[str, tuple[object, tuple[int, Json]]] = {}

    def post(self, path: str, form: dict[str, str], key: str) -> tuple[int, Json]:
        """Do it once for each key; the first answer is stored, an error like a success."""
        with self._lock:
            known = self._answers.get(key)
            if known and known[0] != (path, form):
                type_ = "idempotency_error"
                raise StripeError(400, type_, "idempotency_key_reused")
            if not known:
                known = ((path, form), self._answer(path, form))
                self._answers[key] = known
                is_new = True
            else:
                is_new = False
        if is_new and form.get("payment_method") == "tok_slow":
            time.sleep(SLOW_SECONDS)
        return known[1]

    def forget_keys(self) -> None:
        """Delete the answers to earlier requests, as Stripe does after a day."""
        with self._lock:
            self._answers.clear()

    def search(self, query: str, *, limit: int, page: str) -> Json:
        """A page of the intents with a reference, the latest first, from `page` on."""
        found = re.fullmatch(r"metadata\['reference'\]:'(.*)'", query)
        assert found, query
        with self._lock:
            mine = [self._expanded(one) for one in self._intents.values() if of(one) == found[1]]
        start = int(page.removeprefix("from_")) if page else 0
        end = start + min(limit, self.longest_page)
        has_more = len(mine) > end
        return {
            "object": "search_result",
            "data": mine[::-1][start:end],
            "has_more": has_more,
            "next_page": f"from_{end}" if has_more else None,
            "url": "/v1/payment_intents/search",
        }

    def refunds_of(self, charge: str, *, limit: int, starting_after: str) -> Json:
        """A page of a charge's refunds, the latest first."""
        with self._lock:
            mine = self._of_charge(charge)[::-1]
        ids = [one["id"] for one in mine]
        left = mine[ids.index(starting_after) + 1 if starting_after else 0 :]
        return _page(left, min(limit, self.longest_page))

    def charges(self, reference: str) -> dict[str, int]:
        """In the words of the simulated bank: {"authorizations": 1}."""
        count: Counter[str] = Counter()
        with self._lock:
            for intent in (one for one in self._intents.values() if of(one) == reference):
                declined = intent["status"] == "requires_payment_method"
                count["declines" if declined else "authorizations"] += 1
                count["captures"] += intent["status"] == "succeeded"
                count["voids"] += intent["status"] == "canceled"
                count["refunds"] += len(self._of_charge(intent["latest_charge"]))
        return {name: number for name, number in count.items() if number}

    def intent(self, id_: str) -> Json:
        if id_ not in self._intents:
            raise StripeError(404, "invalid_request_error", "resource_missing")
        return self._intents[id_]

    def _answer(self, path: str, form: dict[str, str]) -> tuple[int, Json]:
        try:
            if path == "/v1/payment_intents":
                answer = self._create(form)
            elif path == "/v1/refunds":
                answer = self._refund(form)
            else:
                id_, _, verb = path.removeprefix("/v1/payment_intents/").partition("/")
                answer = {"capture": self._capture, "cancel": self._cancel}[verb](id_, form)
        except StripeError as error:
            return error.answer
        return 200, json.loads(json.dumps(answer))  # as it is now, whatever comes

    def _create(self, form: dict[str, str]) -> Json:
        assert (form["capture_method"], form["confirm"]) == ("manual", "true"), form
        if form["payment_method"] in REFUSED_METHODS:
            code, more = REFUSED_METHODS[form["payment_method"]]
            raise StripeError(400, "invalid_request_error", code, **more)
        if int(form["amount"]) < SMALLEST_AMOUNT:
            more = {"param": "amount"}
            raise StripeError(400, "invalid_request_error", "amount_too_small", **more)
        number = len(self._intents) + 1
        intent: Json = {
            "object": "payment_intent",
            "id": f"pi_{number}",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "status": "requires_capture",
            "latest_charge": f"ch_{number}",
            "last_payment_error": None,
            "metadata": {"reference": form["metadata[reference]"]},
        }
        self._intents[intent["id"]] = intent
        self._methods[intent["id"]] = form["payment_method"]
        if form["payment_method"] == "tok_declined":
            self._decline(intent, "card_declined", decline_code="insufficient_funds")
        return intent

    def _capture(self, id_: str, form: dict[str, str]) -> Json:
        intent = self._that_is_held(id_)
        if self._methods[id_] == "tok_declined_at_capture":
            self._decline(intent, "expired_card")
        intent["status"], intent["amount_received"] = "succeeded", int(form["amount_to_capture"])
        return intent

    def _cancel(self, id_: str, form: dict[str, str]) -> Json:
        intent = self._that_is_held(id_)
        intent["status"] = "canceled"
        return intent

    def _refund(self, form: dict[str, str]) -> Json:
        charge, amount = form["charge"], int(form["amount"])
        intent = next(one for one in self._intents.values() if one["latest_charge"] == charge)
        made = [one for one in self._of_charge(charge) if one["status"] not in FAILED_REFUND]
        left = intent["amount_received"] - sum(one["amount"] for one in made)
        if amount > left:
            raise StripeError(400, "invalid_request_error", "charge_already_refunded")
        number, currency = len(self.refunds) + 1, intent["currency"]
        refund = {"object": "refund", "id": f"re_{number}", "charge": charge, "amount": amount}
        metadata = {name: form[f"metadata[{name}]"] for name in ("reference", "key")}
        more = {"currency": currency, "status": self.state_of_refunds, "metadata": metadata}
        self.refunds.append({**refund, **more})
        return self.refunds[-1]

    def _that_is_held(self, id_: str) -> Json:
        intent = self.intent(id_)
        if intent["status"] != "requires_capture":
            raise StripeError(400, "invalid_request_error", "payment_intent_unexpected_state")
        return intent

    def _decline(self, intent: Json, code: str, **more: str) -> None:
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {"type": "card_error", "code": code, **more}
        shown = json.loads(json.dumps(intent))
        raise StripeError(402, "card_error", code, payment_intent=shown, **more)

    def _of_charge(self, charge: str) -> list[Json]:
        return [one for one in self.refunds if one["charge"] == charge]

    def _expanded(self, intent: Json) -> Json:
        refunds = self._of_charge(intent["latest_charge"])[::-1]
        charge = {"object": "charge", "id": intent["latest_charge"]}
        return {**intent, "latest_charge": {**charge, "refunds": _page(refunds, LISTED)}}


def _page(objects: list[Json], length: int) -> Json:
    has_more = len(objects) > length
    return {
        "object": "list",
        "data": objects[:length],
        "has_more": has_more,
        "url": "/v1/refunds",
    }


def of(intent: Json) -> str:
    """The reference that an intent is about."""
    return str(intent["metadata"]["reference"])


class StripeStandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.books = Books()
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Endpoint(BaseHTTPRequestHandler):
    server: StripeStandIn

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        books = self.server.books
        if asked.path == "/v1/refunds":
            limit, after = int(query.get("limit", LISTED)), query.get("starting_after", "")
            answer = books.refunds_of(query["charge"], limit=limit, starting_after=after)
        else:
            limit, page = int(query.get("limit", LISTED)), query.get("page", "")
            answer = books.search(query["query"], limit=limit, page=page)
        self._send(200, answer)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: values[-1] for name, values in parse_qs(raw).items()}
        try:
            if self.headers["Authorization"] not in {f"Bearer {KEY}", f"Bearer {LIVE_KEY}"}:
                raise StripeError(401, "invalid_request_error", "invalid_api_key")
            answer = self.server.books.post(self.path, form, self.headers["Idempotency-Key"])
        except StripeError as error:
            answer = error.answer
        self._send(*answer)

    def _send(self, status: int, body: Json) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        try:
            self.wfile.write(raw)
        except ConnectionError:
            self.close_connection = True  # the caller did not wait

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def stand_in() -> Iterator[StripeStandIn]:
    """A running stand-in with empty books."""
    server = StripeStandIn()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
