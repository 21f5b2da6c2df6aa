"""Messages that are removed while no member has them in hand: waiting for a retry, parked behind one of their key, or in a
claim without an owner.

They are settled in the transaction that removes them, so that they are counted for what took them, and free their key.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from geode_client.delivery.claiming import LOST_ERROR, Run, cut_after_loss
from geode_client.store.groups import TOTAL
from geode_client.store.writer import Transaction


class Waiting(msgspec.Struct, frozen=True):
    """A message of a group that nobody had in hand. `pattern` None: of a private group."""

    group_id: int
    name: str
    pattern: str | None
    lane: int
    offset: int
    attempts: int
    error: str | None


def settle_waiting(
    transaction: Transaction, topic_id: int, partition: int, first: int, end: int, counter: str, boot_us: int
) -> list[Waiting]:
    """Settle the messages of all groups at offsets first to end - 1 that no member has in hand; which those were.

    `counter`: removed or expired. A claim whose lease ended before `boot_us` is taken from its owner.
    """
    assert counter in ("removed", "expired")
    place = (topic_id, partition, first, end)
    found = [*_retries(transaction, place), *_parked(transaction, place), *_claims(transaction, place, boot_us)]
    for (group_id, name, lane), count in Counter((one.group_id, one.name, one.lane) for one in found).items():
        transaction.database.cursor.execute(
            f"UPDATE lanes SET {counter} = {counter} + ? WHERE group_id = ? AND topic_id = ? AND partition = ? AND lane = ?",
            (count, group_id, topic_id, partition, lane),
        )
        expired, removed = (count, 0) if counter == "expired" else (0, count)
        transaction.database.cursor.execute(TOTAL, (name, topic_id, 0, 0, 0, expired, removed, 0, 0))
    transaction.announce |= bool(found)  # what waited behind them may go on
    return found


_GROUP = "group_id, g.name, CASE WHEN g.private_to IS NULL THEN g.pattern END, lane"
_Place = tuple[int, int, int, int]


def _retries(transaction: Transaction, place: _Place) -> Iterator[Waiting]:
    where = "topic_id = ? AND partition = ? AND offset >= ? AND offset < ?"
    sql = f"SELECT {_GROUP}, offset, attempts, error FROM retries JOIN groups AS g USING (group_id) WHERE {where}"
    for row in transaction.database.rows(sql, place):
        yield Waiting(*row)
    transaction.database.cursor.execute(f"DELETE FROM retries WHERE {where}", place)


def _parked(transaction: Transaction, place: _Place) -> Iterator[Waiting]:
    sql = (
        f"SELECT {_GROUP}, first, pending, parked.key FROM parked JOIN groups AS g USING (group_id)"
        " WHERE topic_id = ?1 AND partition = ?2 AND first < ?4 AND first + length(pending) > ?3"
    )
    for group_id, name, pattern, lane, first, pending, key in transaction.database.rows(sql, place):
        left, offsets = _without(pending, first, place)
        where = "group_id = ? AND topic_id = ? AND partition = ? AND key = ? AND first = ?"
        row = (group_id, place[0], place[1], key, first)
        if 1 in left:
            transaction.database.cursor.execute(f"UPDATE parked SET pending = ? WHERE {where}", (left, *row))
        else:
            transaction.database.cursor.execute(f"DELETE FROM parked WHERE {where}", row)
        for offset in offsets:
            yield Waiting(group_id, name, pattern, lane, offset, 0, None)


def _claims(transaction: Transaction, place: _Place, boot_us: int) -> Iterator[Waiting]:
    sql = (
        f"SELECT {_GROUP}, claim_id, first, pending, attempts, losses, retried, claims.key, error, owner FROM claims"
        " JOIN groups AS g USING (group_id)"
        " WHERE topic_id = ?1 AND partition = ?2 AND first < ?4 AND first + length(pending) > ?3"
        " AND (owner IS NULL OR deadline_us < ?5)"
    )
    for row in transaction.database.rows(sql, (*place, boot_us)):
        group_id, name, pattern, lane, claim_id, first, pending, attempts, losses, retried, key, error, owner = row
        left, offsets = _without(pending, first, place)
        if 1 in left and owner is None:
            sql = "UPDATE claims SET pending = ? WHERE claim_id = ?"
            transaction.database.cursor.execute(sql, (left, claim_id))
        else:
            transaction.database.cursor.execute("DELETE FROM claims WHERE claim_id = ?", (claim_id,))
            lost = Run((place[0], place[1], lane), first, left, attempts, losses + 1, bool(retried), key, LOST_ERROR)
            _release(transaction, group_id, lost)
        for offset in offsets:
            yield Waiting(group_id, name, pattern, lane, offset, attempts, error)


def _release(transaction: Transaction, group_id: int, lost: Run) -> None:
    """What is left of a claim whose lease has ended is nobody's from now on: its owner must not settle it any more."""
    for run in cut_after_loss(lost):
        transaction.database.cursor.execute(
            "INSERT INTO claims (group_id, topic_id, partition, lane, first, attempts, retried, key, error, owner,"
            " deadline_us, pending, losses) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, ?, ?)",
            (
                group_id,
                *run.place,
                run.first,
                run.attempts,
                run.retried,
                run.key,
                run.error,
                run.pending,
                run.losses,
            ),
        )


def _without(pending: Any, first: int, place: _Place) -> tuple[bytes, list[int]]:
    """What is left pending outside of a run of offsets, and the offsets inside it that were pending."""
    start, stop = max(0, place[2] - first), min(len(pending), place[3] - first)
    offsets = [first + index for index in range(start, stop) if pending[index] == 1]
    return pending[:start] + bytes(max(0, stop - start)) + pending[stop:], offsets
