"""Topics in the store: the works that make, change and remove them, and the reader that finds them by name or number.

The reader keeps what it has read until the catalog's version, which every change raises, has moved on. A topic is
dropped by a mark: its name is free at once, its rows are removed by the sweeper in slices.
"""

from collections.abc import Collection, Iterator, Mapping

import msgspec

from geode_client import options as topic_options
from geode_client.catalog import (
    DEAD_LETTER_PREFIX,
    AddColumn,
    Delivery,
    Rename,
    Topic,
    TopicChange,
    TopicDefinition,
    changed,
    check_partition_key,
)
from geode_client.clock import boot_us, now_us
from geode_client.errors import GeodeError, GqlError, StoreError, TopicExists, TopicNotFound
from geode_client.grammar.ast import JsonValue
from geode_client.grammar.names import literal_prefix, matches
from geode_client.schema import Schema
from geode_client.store import delays, former_names
from geode_client.store.groups import pass_over, topic_appeared, topic_gone, topic_renamed
from geode_client.store.log import LogReader
from geode_client.store.waiting import settle_waiting
from geode_client.store.writer import Transaction
from geode_client.store.zones import declare_columns, outdate_zones

NAMES_COMPARED_MAX = 5_000
NO_DEFAULTS: Mapping[str, JsonValue] = {}
TOPICS_ASKED_SINGLY_MAX = 100
_COLUMNS = (
    "topic_id, name, delivery, automatic, revision, schema_version, created_us, options, (SELECT json_group_array(f.name"
    " ORDER BY f.until_us) FROM former_names AS f WHERE f.topic_id = topics.topic_id)"
)


class CreateTopic(msgspec.Struct, eq=False):
    """Make a topic; `created` False: it was there, and `if_not_exists`."""

    definition: TopicDefinition
    if_not_exists: bool
    durable: bool = True
    error: GeodeError | None = None
    created: bool = False

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        definition = self.definition
        sql = "SELECT 1 FROM topics WHERE name = ? AND dropped = 0"
        if transaction.database.row(sql, (definition.name,)):
            if self.if_not_exists:
                return
            raise TopicExists(definition.name)
        check_dead_letter_topic(transaction, definition)
        check_partition_key(definition)
        transaction.database.cursor.execute(
            "INSERT INTO topics (name, delivery, automatic, schema_version, created_us, swept, options)"
            " VALUES (?, ?, ?, 1, ?, ?, ?)",
            (
                definition.name,
                definition.delivery.value,
                definition.automatic,
                now_us(),
                _is_swept(definition),
                definition.options.to_json(),
            ),
        )
        topic_id = transaction.database.connection.last_insert_rowid()
        _write_schema(transaction, topic_id, 1, definition.schema)
        topic_appeared(transaction, topic_id, definition.name, definition.options.partitions)
        transaction.catalog_changed = True
        self.created = True


class AlterTopic(msgspec.Struct, eq=False):
    """Change a topic that exists."""

    name: str
    change: TopicChange
    durable: bool = True
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        topic = require_topic(transaction, self.name)
        definition = changed(topic.definition, self.change)
        if isinstance(self.change, Rename):
            _rename(transaction, topic, self.change.new_name)
            return
        self._check_column(transaction, topic)
        check_dead_letter_topic(transaction, definition)
        check_partition_key(definition)
        if definition.options.partitions != topic.partitions and _is_used(transaction, topic):
            raise GeodeError(
                f"topic {self.name} holds messages: the number of partitions may change only while a topic is empty"
                f" (it has {topic.partitions}); make a new topic, or PURGE this one first"
            )
        version = topic.schema_version
        if definition.schema != topic.schema:
            version += 1
            _write_schema(transaction, topic.topic_id, version, definition.schema)
            if definition.schema is not None:
                outdate_zones(transaction, topic.topic_id, definition.schema.defaults_beyond(topic.schema))
        transaction.database.cursor.execute(
            "UPDATE topics SET delivery = ?, revision = revision + 1, schema_version = ?, swept = ?, options = ?"
            " WHERE topic_id = ?",
            (
                definition.delivery.value,
                version,
                _is_swept(definition),
                definition.options.to_json(),
                topic.topic_id,
            ),
        )
        topic_appeared(transaction, topic.topic_id, topic.name, definition.options.partitions)
        transaction.catalog_changed = True

    def _check_column(self, transaction: Transaction, topic: Topic) -> None:
        """Refuse a column that the messages that are there could not have."""
        if not isinstance(self.change, AddColumn):
            return
        column = self.change.column
        has_default = column.default is not None and column.default.value is not None
        if column.not_null and not has_default and _is_used(transaction, topic):
            raise GqlError(
                f"topic {self.name} holds messages without column {column.name}, which is NOT NULL",
                span=column.span,
                hint=f"give it a DEFAULT, which those messages have then: ADD COLUMN {column.name} … DEFAULT …",
            )


def _rename(transaction: Transaction, topic: Topic, new_name: str) -> None:
    """Give a topic another name, and with it its dead letters where they are in the topic that is named after it."""
    if new_name == topic.name:
        raise GeodeError(f"the topic is called {new_name} already")
    _free_name(transaction, new_name)
    letters = _own_letters(transaction, topic)
    _set_name(transaction, topic, new_name)
    former_names.add(transaction, topic.topic_id, topic.name)
    if letters is not None:
        name = f"{DEAD_LETTER_PREFIX}{new_name}"
        if letters.name != name:
            _free_name(transaction, name)
            _set_name(transaction, letters, name)
            former_names.add(transaction, letters.topic_id, letters.name)
    transaction.catalog_changed = True


def _own_letters(transaction: Transaction, topic: Topic) -> Topic | None:
    """The topic of the dead letters that is named after a topic, and so goes along with its name."""
    if topic.options.dead_letter_topic is not None:
        return None
    sql = "SELECT topic_id FROM topics WHERE name = ? AND dropped = 0"
    row = transaction.database.row(sql, (f"{DEAD_LETTER_PREFIX}{topic.name}",))
    return None if row is None else topic_by_id(transaction, row[0])


def _free_name(transaction: Transaction, name: str) -> None:
    if transaction.database.row("SELECT 1 FROM topics WHERE name = ? AND dropped = 0", (name,)):
        raise TopicExists(name)


def _set_name(transaction: Transaction, topic: Topic, name: str) -> None:
    transaction.database.cursor.execute(
        "UPDATE topics SET name = ?, automatic = 0, revision = revision + 1 WHERE topic_id = ?", (name, topic.topic_id)
    )
    topic_renamed(transaction, topic.topic_id, topic.name, name, topic.partitions)


class DropTopic(msgspec.Struct, eq=False):
    """Free the name and make the messages unreachable."""

    name: str
    durable: bool = True
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        drop_topic(transaction, require_topic(transaction, self.name).topic_id)


def drop_topic(transaction: Transaction, topic_id: int) -> None:
    """Mark a topic as dropped; the sweeper removes what it leaves."""
    transaction.database.cursor.execute(
        "UPDATE topics SET dropped = 1, swept = 1, revision = revision + 1 WHERE topic_id = ?", (topic_id,)
    )
    topic_gone(transaction, topic_id)
    transaction.catalog_changed = True


class PurgeTopic(msgspec.Struct, eq=False):
    """Make all messages unreachable at once; their rows are removed by the sweeper. `purged` says how many they were."""

    name: str
    leases_until_us: int | None = None
    durable: bool = True
    error: GeodeError | None = None
    topic_id: int = 0
    purged: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        topic = require_topic(transaction, self.name)
        self.topic_id = topic.topic_id
        sql = (
            "SELECT coalesce(sum(b.count), 0) FROM batches AS b JOIN partitions AS p USING (topic_id, partition)"
            " WHERE b.topic_id = ? AND b.base_offset >= p.start_offset"
        )
        self.purged = transaction.database.rows(sql, (topic.topic_id,))[0][0]
        for partition in range(topic.partitions):
            end = transaction.next_offset(topic.topic_id, partition)
            pass_over(transaction, topic.topic_id, partition, 0, end, "removed")
            settle_waiting(transaction, topic.topic_id, partition, 0, end, "removed", self.leases_until_us or boot_us())
        self.purged += delays.purge(transaction, topic.topic_id)
        transaction.database.cursor.execute(
            "UPDATE partition_marks AS m SET start_offset = (SELECT next_offset FROM partitions AS p"
            " WHERE p.topic_id = m.topic_id AND p.partition = m.partition) WHERE topic_id = ?",
            (topic.topic_id,),
        )


class TopicReader:
    """Finds topics; used on one thread."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._version = -1
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[int, Topic] = {}
        self._defaults: dict[tuple[int, int], Mapping[str, JsonValue]] = {}

    @property
    def version(self) -> int:
        """The version of the catalog that what was returned belongs to."""
        return self._version

    def refresh(self) -> bool:
        """Forget everything when the catalog has changed; True when it had."""
        version = self._log.rows("SELECT value FROM store_state WHERE name = 'catalog_version'")[0][0]
        if version == self._version:
            return False
        self._version = version
        self._by_name.clear()
        self._by_id.clear()
        self._defaults.clear()
        return True

    def remembered(self, name: str) -> Topic | None:
        """The topic of this name if it has been read before; nothing is looked up."""
        return self._by_name.get(name)

    def get(self, name: str) -> Topic | None:
        """The topic of this name, from memory where it has been read before."""
        topic = self._by_name.get(name)
        return topic if topic is not None else self._read("name = ? AND dropped = 0", name)

    def require(self, name: str) -> Topic:
        topic = self.get(name)
        if topic is None:
            raise TopicNotFound(name, self.names())
        return topic

    def by_id(self, topic_id: int) -> Topic | None:
        """The topic of this number, unless it was dropped."""
        topic = self._by_id.get(topic_id)
        return topic if topic is not None else self._read("topic_id = ? AND dropped = 0", topic_id)

    def defaults_since(self, topic_id: int, version: int) -> Mapping[str, JsonValue]:
        """The defaults of the columns that a topic got after a version of its schema."""
        topic = self.by_id(topic_id)
        if topic is None or topic.schema is None or topic.schema_version <= version:
            return NO_DEFAULTS
        found = self._defaults.get((topic_id, version))
        if found is None:
            sql = "SELECT definition FROM schema_versions WHERE topic_id = ? AND version = ?"
            rows = self._log.rows(sql, (topic_id, version))
            found = topic.schema.defaults_beyond(Schema.from_json(rows[0][0]) if rows else None)
            self._defaults[topic_id, version] = found
        return found

    def gone(self, topic_ids: Collection[int]) -> set[int]:
        """Those of the topics that were dropped."""
        if len(topic_ids) <= TOPICS_ASKED_SINGLY_MAX:
            return {topic_id for topic_id in topic_ids if self.by_id(topic_id) is None}
        living = {row[0] for row in self._log.rows("SELECT topic_id FROM topics WHERE dropped = 0")}
        return set(topic_ids) - living

    def name_of(self, topic_id: int) -> str:
        """A name for messages and errors, also of a dropped topic."""
        topic = self._by_id.get(topic_id)
        if topic is not None:
            return topic.name
        found = self._log.rows("SELECT name FROM topics WHERE topic_id = ?", (topic_id,))
        return str(found[0][0]) if found else f"#{topic_id}"

    def covered(self, pattern: str) -> Iterator[Topic]:
        """Topics that the pattern covers, by name."""
        prefix = literal_prefix(pattern)
        sql = f"SELECT {_COLUMNS} FROM topics WHERE dropped = 0 AND name >= ? AND name < ? ORDER BY name"
        for row in self._log.rows(sql, (prefix, prefix + "\U0010ffff")):
            if matches(pattern, row[1]):
                yield self._by_id.get(row[0]) or self._remember(row)

    def names(self) -> list[str]:
        """The names of topics, as many as are worth comparing with one that is none."""
        rows = self._log.rows("SELECT name FROM topics WHERE dropped = 0 LIMIT ?", (NAMES_COMPARED_MAX,))
        return [row[0] for row in rows]

    def _read(self, condition: str, value: str | int) -> Topic | None:
        found = self._log.rows(f"SELECT {_COLUMNS} FROM topics WHERE {condition}", (value,))
        return self._remember(found[0]) if found else None

    def _remember(self, row: tuple[object, ...]) -> Topic:
        sql = "SELECT definition FROM schema_versions WHERE topic_id = ? AND version = ?"
        found = self._log.rows(sql, (row[0], row[5]))
        topic = _topic(row, found[0][0] if found else None)
        self._by_name[topic.name] = self._by_id[topic.topic_id] = topic
        return topic


def _topic(row: tuple[object, ...], schema: bytes | None) -> Topic:
    topic_id, name, delivery, automatic, revision, schema_version, created_us, options, former = row
    try:
        definition = TopicDefinition(
            name=str(name),
            options=topic_options.TopicOptions.from_json(options),  # type: ignore[arg-type]
            schema=None if schema is None else Schema.from_json(schema),
            delivery=Delivery(str(delivery)),
            automatic=bool(automatic),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(f"the catalog entry of topic {name} cannot be read: {error}") from error
    former_names = tuple(msgspec.json.decode(str(former), type=list[str]))
    return Topic(topic_id, definition, revision, schema_version, created_us, former_names)  # type: ignore[arg-type]


def require_topic(transaction: Transaction, name: str) -> Topic:
    """The topic of this name as the transaction sees it; raises TopicNotFound."""
    sql = f"SELECT {_COLUMNS} FROM topics WHERE name = ? AND dropped = 0"
    row = transaction.database.row(sql, (name,))
    if row is None:
        raise TopicNotFound(name)
    sql = "SELECT definition FROM schema_versions WHERE topic_id = ? AND version = ?"
    schema = transaction.database.row(sql, (row[0], row[5]))
    return _topic(row, schema[0] if schema else None)


DEAD_LETTER_STEPS_MAX = 64


def check_dead_letter_topic(transaction: Transaction, definition: TopicDefinition) -> None:
    """Refuse a dead-letter topic that leads back to the topic itself."""
    following = definition.options.dead_letter_topic
    path = [definition.name]
    sql = "SELECT options FROM topics WHERE name = ? AND dropped = 0"
    while following is not None and len(path) < DEAD_LETTER_STEPS_MAX:
        path.append(following)
        if following == definition.name:
            raise GeodeError(
                f"the dead letters of {definition.name} would come back to it ({' → '.join(path)}): name another"
                " dead_letter_topic"
            )
        row = transaction.database.row(sql, (following,))
        following = topic_options.TopicOptions.from_json(row[0]).dead_letter_topic if row else None


def topic_by_id(transaction: Transaction, topic_id: int) -> Topic | None:
    """The topic of this number as the transaction sees it, unless it was dropped."""
    row = transaction.database.row("SELECT name FROM topics WHERE topic_id = ? AND dropped = 0", (topic_id,))
    return None if row is None else require_topic(transaction, row[0])


def _write_schema(transaction: Transaction, topic_id: int, version: int, schema: Schema | None) -> None:
    if schema is not None:
        transaction.database.cursor.execute(
            "INSERT INTO schema_versions VALUES (?, ?, ?)", (topic_id, version, schema.to_json())
        )
        declare_columns(transaction, topic_id, schema)


def _is_used(transaction: Transaction, topic: Topic) -> bool:
    sql = "SELECT 1 FROM partitions WHERE topic_id = ? AND next_offset > start_offset"
    in_log = transaction.database.row(sql, (topic.topic_id,)) is not None
    return in_log or delays.waiting_in(transaction, topic.topic_id) > 0


def _is_swept(definition: TopicDefinition) -> bool:
    """Whether the sweeper has to look at the topic although nothing was dropped or purged."""
    options = definition.options
    return options.retention == "consumed" or any(
        (options.retention_period_us, options.retention_bytes, options.expire_when_idle_us)
    )
