"""What a transaction has gathered, made into one work of the store that is done whole or not at all.

Messages of one topic that follow each other and agree in priority, time to live and compression become rows together,
whether they came one by one or in batches. Topics that the transaction makes are made by the work itself, and the rows of
their messages inside it.
"""

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from geode_client import codec
from geode_client.broker import BatchReceipt, OutgoingBatch, Receipt
from geode_client.broker.validate import Router
from geode_client.catalog import Topic
from geode_client.clock import datetime_of
from geode_client.errors import GeodeError
from geode_client.local.publisher import prepare_lines
from geode_client.store.publishing import PublishWork
from geode_client.store.topics import CreateTopic, require_topic
from geode_client.store.writer import Transaction, Work

# Columns of a batch that are put together as they are: a value for each message, or none at all.
_PLAIN_COLUMNS = ("ids", "histories", "times_us", "expires_us")


class Entry(msgspec.Struct, frozen=True, eq=False):
    """One publish or publish_batch of a transaction: encoded, so that nobody can change it any more."""

    topic: str
    batch: OutgoingBatch
    lines: bytes
    count: int
    single: bool

    @classmethod
    def of(cls, batch: OutgoingBatch, lines: bytes, *, single: bool) -> Self:
        count = len(batch.bodies)
        keys = batch.keys if batch.keys is None or isinstance(batch.keys, str) else list(batch.keys)
        headers = batch.headers
        if headers is not None:
            headers = [codec.decode(codec.encode(dict(header))) if header else None for header in headers]
        columns = {name: None if (given := getattr(batch, name)) is None else list(given) for name in _PLAIN_COLUMNS}
        kept = msgspec.structs.replace(batch, bodies=(), keys=keys, headers=headers, **columns)
        return cls(batch.topic, kept, lines, count, single)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the messages of one row agree in."""
        batch = self.batch
        # What expects an offset is checked by itself.
        alone = None if batch.expected_offset is None else id(self)
        return (
            batch.priority,
            batch.ttl_us,
            batch.delay_us,
            batch.compression,
            batch.addressee,
            batch.expires_us is None,
            alone,
        )


class Publication(msgspec.Struct, eq=False):
    """Entries of one topic that become rows together; `work` is made when the topic is known."""

    topic: str
    entries: list[Entry]
    work: PublishWork | None = None

    def prepare(self, topic: Topic, catalog_version: int, router: Router) -> PublishWork:
        """Make the rows; raises InvalidMessage when the topic, as it is now, refuses a message."""
        batch = _combined(self.entries)
        lines = self.entries[0].lines if len(self.entries) == 1 else b"".join(entry.lines for entry in self.entries)
        count = sum(entry.count for entry in self.entries)
        self.work = prepare_lines(topic, batch, lines, count, catalog_version, router)
        return self.work


def publications(
    entries: Sequence[Entry], topics: Mapping[str, Topic | None], catalog_version: int, router: Router
) -> list[Publication]:
    """The entries as works, in their order within each topic; those of a topic that is not there yet wait for it."""
    by_topic: dict[str, list[Entry]] = {}
    for entry in entries:
        by_topic.setdefault(entry.topic, []).append(entry)
    found: list[Publication] = []
    for name, of_topic in by_topic.items():
        topic = topics[name]
        for _, run in itertools.groupby(of_topic, key=lambda entry: entry.kind):
            publication = Publication(name, list(run))
            if topic is not None:
                publication.prepare(topic, catalog_version, router)
            found.append(publication)
    return found


def _combined(entries: Sequence[Entry]) -> OutgoingBatch:
    first = entries[0].batch
    if len(entries) == 1:
        return first
    return msgspec.structs.replace(
        first,
        keys=_column(entries, "keys"),
        headers=_column(entries, "headers"),
        **{name: _column(entries, name) for name in _PLAIN_COLUMNS},
    )


def _column(entries: Sequence[Entry], name: str) -> list[Any] | None:
    """One value a message; None where no entry has any."""
    columns = [getattr(entry.batch, name) for entry in entries]
    if all(column is None for column in columns):
        return None
    found: list[Any] = []
    for entry, column in zip(entries, columns, strict=True):
        found += column if isinstance(column, list) else [column] * entry.count
    return found


class CommitWork:
    """All that a transaction writes. Whoever refuses it refuses all of it.

    `withdraw` takes it back as long as it has not begun.
    """

    def __init__(
        self, creations: Sequence[CreateTopic], publications: Sequence[Publication], settlements: Sequence[Work]
    ) -> None:
        self.publications = publications
        self.error: GeodeError | None = None
        self._creations = creations
        self._settlements = settlements
        self._claim = threading.Lock()
        self._router = Router()
        known = [publication.work for publication in publications]
        self.durable = bool(creations) or any(work is None or work.durable for work in (*known, *settlements))

    def prepare(self) -> None:
        for publication in self.publications:
            if publication.work is not None:
                publication.work.prepare()
        for work in self._settlements:
            work.prepare()

    def withdraw(self) -> bool:
        """Keep it from being written; False when it is being written, or has been."""
        return self._claim.acquire(blocking=False)

    def run(self, transaction: Transaction) -> None:
        if not self._claim.acquire(blocking=False):
            raise GeodeError("the transaction was taken back")
        with transaction.all_or_nothing():
            for creation in self._creations:
                creation.run(transaction)
            for publication in self.publications:
                self._work_of(publication, transaction).run(transaction)
            for work in self._settlements:
                work.run(transaction)

    def _work_of(self, publication: Publication, transaction: Transaction) -> PublishWork:
        if publication.work is not None:
            return publication.work
        topic = require_topic(transaction, publication.topic)
        return publication.prepare(topic, transaction.catalog_version, self._router)


def receipts_of(entries: Sequence[Entry], made: Sequence[Publication], id_prefix: str) -> list[Receipt | BatchReceipt]:
    """What became of each entry, in the order of the entries, after the commit."""
    found: dict[int, Receipt | BatchReceipt] = {}
    for publication in made:
        assert publication.work is not None
        places = _places(publication.work, id_prefix)
        first = 0
        for entry in publication.entries:
            own = places[first : first + entry.count]
            found[id(entry)] = _receipt(entry, own)
            first += entry.count
    return [found[id(entry)] for entry in entries]


class _Place(msgspec.Struct, frozen=True):
    topic_id: int
    partition: int
    offset: int | None
    timestamp_us: int
    id: str
    duplicate: bool


def _places(work: PublishWork, id_prefix: str) -> list[_Place]:
    places: dict[int, _Place] = {}
    timestamp_us = 0
    for part in work.parts:
        append = part.append
        timestamp_us = append.timestamp_us
        prefix = f"{id_prefix}{append.topic_id}-{append.partition}-"
        for index, position in enumerate(part.positions):
            offset = append.base_offset + index if work.due_us is None else None
            places[position] = _Place(
                append.topic_id, append.partition, offset, timestamp_us, f"{prefix}{offset}", duplicate=False
            )
    for position, known in work.known.items():
        places[position] = _Place(work.topic_id, known.partition, known.offset, timestamp_us, "", duplicate=True)
    return [places[position] for position in sorted(places)]


def _receipt(entry: Entry, places: Sequence[_Place]) -> Receipt | BatchReceipt:
    if entry.single:
        place = places[0]
        message_id = (entry.batch.ids or (None,))[0] or place.id
        accepted = datetime_of(place.timestamp_us)
        return Receipt(message_id, entry.topic, place.partition, place.offset, accepted, place.duplicate)
    offsets: dict[int, range] = {}
    stored = [place for place in places if not place.duplicate]
    for place in stored:
        if place.offset is None:
            continue
        before = offsets.get(place.partition)
        start = place.offset if before is None else before.start
        offsets[place.partition] = range(start, place.offset + 1)
    return BatchReceipt(len(stored), len(places) - len(stored), offsets)
