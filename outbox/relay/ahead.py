"""Events that a pass fans out ahead of a backlog: the newest ones of owners with few of them.

A page of `FAN_OUT` events is full while there is a backlog, such as an import by one tenant. The
events of other tenants must not wait until all of it is fanned out. So a pass whose page has many
events of one share also takes some of the newest events: those of other shares that have few among
them. An event of a key waits for the earlier ones of this key all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

from outbox.conf import conf
from outbox.deliveries.key_rows import first_waiting
from outbox.deliveries.statements import Statement, read_each

from .backlog import WAITING, Waiting, waiting_events_at

#: The number of the newest events is so many times `FAN_OUT`: a backlog that grows gets more than
#: `FAN_OUT` events in each pass.
_PAGES = 4
#: Parts of `FAN_OUT`: most events that a pass takes ahead, and most of one share among the newest.
#: A share with more than a tenth of the page itself has a backlog.
_MOST, _FEW = 5, 10


def lock_ahead(page: Sequence[Waiting], *, using: str) -> list[Waiting]:
    """Lock events that are fanned out ahead of others, in the caller's transaction.

    Args:
        page: the locked page of the oldest events that wait for fan-out. It is full.
        using: the outbox's database alias.

    Returns:
        The events in order of `seq`, at most a fifth of `FAN_OUT`. None, if no share has a backlog.
    """
    size, few_of_page = conf().FAN_OUT, max(1, len(page) // _FEW)
    # Events without a share count as those of one owner.
    backlogs = {
        share
        for share, number in Counter(one.share for one in page).items()
        if number > few_of_page
    }
    if not backlogs:
        return []
    later = f"AND seq > {page[-1].seq:d}"
    newest = Statement(f"{_NEWEST} {later} ORDER BY seq DESC LIMIT {size * _PAGES:d}", is_page=True)
    (rows,) = read_each(newest, using=using)
    few, most = max(1, size // _FEW), max(1, size // _MOST)
    seqs = few_of_each(reversed(rows), few=few, most=most, without=backlogs)
    if not seqs:
        return []
    (found,) = read_each(waiting_events_at(seqs, using=using), using=using)
    events = [Waiting(*WAITING.convert(row, using=using)) for row in found]
    if not events:  # another relay has locked them
        return []
    firsts = first_waiting({one.key for one in events}, using=using)
    return [one for one in events if firsts.get(one.key, one.seq) == one.seq]


def few_of_each(
    events: Iterable[Sequence[Any]], *, few: int, most: int, without: Collection[str | None] = ()
) -> list[int]:
    """Choose events of shares that have few: one of each share in turn, the oldest first.

    Args:
        events: `seq` and share of each event, in order of `seq`. None is no share.
        few: number of events up to which those of a share are chosen.
        most: number of events to choose.
        without: shares that are left out.

    Returns:
        The chosen `seq`, at most `most`.
    """
    by_share: dict[str, list[int]] = {}
    for seq, share in events:
        if share is not None and share not in without:
            by_share.setdefault(share, []).append(seq)
    in_turn = zip_longest(*(seqs for seqs in by_share.values() if len(seqs) <= few))
    chosen = (seq for seq in chain.from_iterable(in_turn) if seq is not None)
    return list(islice(chosen, most))


_NEWEST = "SELECT seq, share FROM outbox_event WHERE fanned_out_at IS NULL"
