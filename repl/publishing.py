"""What `geode publish` does: JSON from the command line, and files and standard input in the formats of COPY, to a topic.

Of an input that pauses, such as a pipe, what has come is stored at once. A wrong record is named by its place; nothing of its
batch is stored, and all batches before it are.
"""

from pathlib import Path
from typing import Any

import msgspec

from geode_client.broker import OutgoingBatch
from geode_client.client import Client, broker_of
from geode_client.errors import GeodeError, InvalidMessage
from geode_client.options import parse_priority
from geode_client.query.copy_options import load_options
from geode_client.query.fields import FieldPath
from geode_client.query.inputs import STANDARD_STREAM
from geode_client.query.loading import LoadOptions, load
from geode_client.repl.progress import ProgressLine
from geode_client.units import parse_duration_us

PATH_CHARACTERS_MAX = 4096
_MAGIC = frozenset("*?[")


class Publisher:
    """Publishes what it is given to one topic; `count`, `duplicates` and `skipped` add up.

    `copying` are options of COPY FROM by name; those that are None are left out.
    """

    def __init__(
        self,
        client: Client,
        topic: str,
        *,
        key: str | None,
        priority: str | None,
        ttl: str | None,
        delay: str | None,
        **copying: Any,
    ) -> None:
        self._copying = {name: value for name, value in copying.items() if value is not None}
        if key is not None and "key_field" in self._copying:
            raise GeodeError("--key and --key-field exclude each other: give one")
        self._client = client
        self._topic = topic
        self._fixed: dict[str, Any] = {
            "ttl_us": None if ttl is None else parse_duration_us(ttl),
            "delay_us": None if delay is None else parse_duration_us(delay),
        }
        if key is not None:
            self._fixed["keys"] = key
        if priority is not None:
            self._fixed["priority"] = parse_priority(int(priority) if priority.isdigit() else priority)
        self._progress = ProgressLine(f"publishing to {topic}")
        self.count = self.duplicates = self.skipped = 0
        self.notices: list[str] = []

    async def take(self, given: str) -> None:
        """Publish a JSON text, a file, the files of a pattern, or with '-' standard input. Raises GeodeError."""
        # Makes the topic where there is none, also when no message follows.
        await self._client.publish_batch(self._topic, ())
        if given != STANDARD_STREAM and _is_json(given):
            await self._value(given)
        elif given == STANDARD_STREAM or _is_path(given):
            await self._load(given)
        else:
            raise GeodeError(f"{given!r} is neither JSON nor a file; a text needs its quotes: '\"{given}\"'")

    async def _load(self, given: str) -> None:
        options = load_options(given, self._copying, self._fixed)

        async def ensure(name: str) -> None:
            await self._client.publish_batch(name, ())

        def told(messages: int, done: int, total: int) -> None:
            self._progress.show(done, total, f"{self.count + messages:,} messages")

        try:
            done = await load(broker_of(self._client), self._topic, given, options, ensure, told)
        finally:
            self._progress.clear()
        self.count += done.messages
        self.duplicates += done.duplicates
        self.skipped += done.skipped
        self.notices += done.notices

    async def _value(self, text: str) -> None:
        """One message from the command line."""
        options = load_options(STANDARD_STREAM, {**self._copying, "format": "jsonl"}, self._fixed)
        try:
            batch = _single(self._topic, text, options)
            receipt = await broker_of(self._client).publish_batch(batch)
        except InvalidMessage as error:
            where = f" at {error.pointer}" if error.pointer else ""
            stored = f" ({self.count:,} messages were stored before)" if self.count else ""
            raise GeodeError(f"<command>:1{where}: {error.reason}{stored}") from error
        self.count += receipt.count
        self.duplicates += receipt.duplicates


def _single(topic: str, text: str, options: LoadOptions) -> OutgoingBatch:
    from geode_client.query.fields import TimeFormat
    from geode_client.query.json_files import checked

    _, (body,) = checked([text.encode()], "")
    fixed = dict(options.fixed)
    if options.key_field is not None:
        fixed["keys"] = [FieldPath(options.key_field, "key_field").text_of(body, 0)]
    if options.id_field is not None:
        fixed["ids"] = [FieldPath(options.id_field, "id_field").text_of(body, 0)]
    if options.timestamp_field is not None:
        value = FieldPath(options.timestamp_field, "timestamp_field").value_of(body, 0)
        fixed["times_us"] = [TimeFormat(options.timestamp_format).microseconds(value, 0)]
    return OutgoingBatch(topic, [body], **fixed)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        # What begins as JSON is meant as JSON: the error will say what is wrong with it.
        return text.lstrip()[:1] in ("{", '"') or (text.lstrip()[:1] == "[" and not Path(text).exists())
    return True


def _is_path(text: str) -> bool:
    if len(text) >= PATH_CHARACTERS_MAX or "\0" in text:
        return False
    return Path(text).expanduser().exists() or not _MAGIC.isdisjoint(text)
