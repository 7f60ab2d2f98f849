"""Settlement across services: a consumer reports that it has settled an event that a sink sent.

    from outbox.settlements import wait_until_settled

    event_id = emit(ParcelSent(parcel_id=parcel.id))      # in a transaction, which then commits
    wait_until_settled(event_id, "billing", seconds=30)

A sink names its `CONSUMERS`, and a source of the other project `SETTLES_AS`. This module imports no
models. See docs/how-to/wait-for-other-systems.md.
"""
