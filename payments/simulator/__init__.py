"""A simulated bank: a separate program with its own storage. It imports no app.

Start it with `python -m payments.simulator --port 8090 --data DIR`. It speaks HTTP and JSON:

    POST /v1/authorizations             hold money: reference, amount, currency, payment_method
    POST /v1/authorizations/ID/capture  capture the held money, or a part of it: amount, currency
    POST /v1/authorizations/ID/void     release the held money
    POST /v1/captures/ID/refunds        refund, whole or in part: amount, currency
    GET  /v1/authorizations?reference=R all data under the caller's reference, newest first
    GET  /v1/charges                    counts and sums by reference and in total; also ?reference=R
    GET  /v1/notices                    number of webhooks not accepted yet: {"owed": 0}
    GET  /health                        {"status": "ok"}; the only path that needs no key

Conventions:

  * `Authorization: Bearer KEY` on every request, else 401.
  * Amounts are integers in minor units (12800 JPY is 12800, 12.80 EUR is 1280).
  * Every POST needs an `Idempotency-Key`. The same key with the same body gets the stored answer
    (with the header `Idempotent-Replayed: true`); with another body, or at another path, 422.
    A duplicate that arrives while the first is running waits and gets the same answer. Keys
    survive a restart. A decision is stored, success or decline. A refused request (400 to 422)
    stores nothing.
  * A decline is an answer, not an error: status 402, `error.decline_code` is the reason, and
    `error.authorization` is the declined authorization. It is stored under its key like a success.
  * Every other error is `{"error": {"type", "code", "message"}}` and has moved no money.

  * No request takes longer than --processing-seconds. What is not stored by then never will be,
    and a caller that still waits gets 504. Keys are forgotten after --key-life-seconds.

Payment methods:

    tok_success              is authorized
    tok_declined             is declined: insufficient_funds
    tok_declined_at_capture  is authorized, but its capture is declined (402): expired_card, and
                             nothing is held any more
    tok_TRICK                is authorized, with a fault on the way (below)
    anything else            is declined: unknown_payment_method

Tricks, at authorize; with the operation's name before it, at that one (tok_capture_fails_2):

    slow, slow_N             answers after --slow-seconds, or N; nothing is stored until then
    timeout_after_success    is stored at once, and answers after --slow-seconds; also with _N
    hangs_up_after_success   is stored at once; then closes the connection without an answer
    fails_N                  answers 500 N times, having done nothing
    busy_N                   answers 429 N times, having done nothing
    hangs_up_N               closes the connection N times, having done nothing
    stuck_N                  N times exceeds --processing-seconds, and is given up: 504

Webhooks: with --webhook-url and the environment's BANK_WEBHOOK_SECRET each authorization, capture,
void and refund is posted there, signed (see `notices`); --webhook-times 2 posts it twice,
--webhook-delay-seconds late, --webhook-first before the request has its answer.

An answer is on disk before it is sent: it survives `kill -9` and a power cut.
"""
