"""What the shell offers while somebody types: words of the grammar, names of the store, fields of messages.

The grammar says what can stand at the cursor (`grammar/completion.py`), the store what there is (`known.py`); here the two
meet, and what fits best comes first.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from geode_client.errors import GeodeError
from geode_client.repl.commands import COMMANDS, is_command

if TYPE_CHECKING:
    from geode_client.grammar.completion import Place
    from geode_client.repl.known import Known

OFFERED_MAX = 300

_DURATIONS = ("'30 seconds'", "'10 minutes'", "'1 hour'", "'7 days'")
_SIZES = ("'64 KiB'", "'1 MiB'", "'512 MiB'", "'10 GiB'")
_VALUES: Mapping[str, tuple[str, ...]] = {
    "compression": ("'lz4'", "'none'"),
    "retention": ("'all'", "'consumed'"),
    "priority": ("'low'", "'normal'", "'high'", "'critical'"),
    **dict.fromkeys(("retention_bytes", "max_message_bytes"), _SIZES),
    **dict.fromkeys(
        ("retention_period", "message_ttl", "ack_timeout", "retry_backoff", "retry_backoff_max"), _DURATIONS
    ),
    **dict.fromkeys(("dedupe_window", "expire_when_idle", "ttl", "delay"), _DURATIONS),
}
_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".gql")


class Candidate(msgspec.Struct, frozen=True):
    """Something that could be written; `text` is what is inserted, `group` puts kinds in order."""

    shown: str
    text: str
    about: str = ""
    group: int = 0


class StatementCompleter(Completer):
    """Completes the shell's own commands at once, and statements when the engine is there (`begin`)."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._known: Known | None = None
        self._parameters: Iterable[str] = ()

    def begin(self, known: "Known", parameters: Iterable[str]) -> None:
        """The engine has been loaded: names of the store and of parameters can be offered."""
        self._known = known
        self._parameters = parameters
        self._begun.set()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Nothing: the store is asked without blocking, in get_completions_async."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """The completions at the cursor, best first."""
        # Whatever is wrong with the store is told when the statement runs, not while it is typed.
        with suppress(GeodeError):
            prefix, candidates = await self._candidates(document, asked=complete_event.completion_requested)
            for candidate in best(candidates, prefix)[:OFFERED_MAX]:
                yield Completion(candidate.text, -len(prefix), display=candidate.shown, display_meta=candidate.about)

    async def _candidates(self, document: Document, *, asked: bool) -> tuple[str, list[Candidate]]:
        before = document.text_before_cursor
        if is_command(before):
            return await self._of_command(before)
        if not (before.strip() or asked):
            return "", []
        # Who types before the engine is loaded gets the menu when it is.
        await self._begun.wait()
        from geode_client.grammar.completion import place_at

        place = place_at(document.text, document.cursor_position)
        prefix = place.prefix
        if not prefix and not asked and not _invites(before):
            return "", []
        quoted = before[: len(before) - len(prefix)].endswith(('"', "'"))
        return prefix, [candidate async for candidate in self._offered(place, quoted)]

    async def _of_command(self, before: str) -> tuple[str, list[Candidate]]:
        name, space, rest = before.lstrip().partition(" ")
        if not space:
            dot = name.startswith(".")
            return name, [
                Candidate(form, form, command.about)
                for command in COMMANDS
                for form in command.forms
                if form.startswith(".") == dot
            ]
        command = next((command for command in COMMANDS if name in command.forms), None)
        word = rest.rpartition(" ")[2]
        match command.takes if command else "":
            case "topic" if self._known is not None:
                return word, [Candidate(topic, topic, "topic") for topic in await self._known.topics()]
            case "file":
                return word, list(_files(word))
            case str(takes) if "|" in takes:
                return word, [Candidate(one, one) for one in takes.split("|")]
            case _:
                return word, []

    async def _offered(self, place: "Place", quoted: bool) -> AsyncIterator[Candidate]:
        from geode_client.grammar.completion import Kind

        assert self._known is not None
        for word in place.words:
            yield Candidate(word, word, "", 2)
        for kind in place.kinds:
            match kind:
                case Kind.FIELD:
                    async for candidate in self._fields(place):
                        yield candidate
                case Kind.JSON_FIELD:
                    for name, found in (await self._known.fields(place.sources[0].name, place.path)).items():
                        if not name.startswith("_"):
                            yield Candidate(name, f'{name}": ' if quoted else f'"{name}": ', found.kind)
                case Kind.TOPIC | Kind.PATTERN:
                    for candidate in _topics(await self._known.topics(), patterns=kind is Kind.PATTERN):
                        yield candidate
                case Kind.SYSTEM_TABLE:
                    for table in self._known.tables():
                        yield Candidate(f"SYSTEM.{table}", f"SYSTEM.{table}", "table", 1)
                case Kind.GROUP:
                    for group in await self._known.groups():
                        yield Candidate(group, group, "group")
                case Kind.PARAMETER:
                    for name in self._parameters:
                        yield Candidate(f"${name}", f"${name}", "parameter")
                case Kind.FILE:
                    for candidate in _files(place.prefix):
                        yield candidate
                case _:
                    for candidate in await self._of_language(kind, place, quoted):
                        yield candidate

    async def _of_language(self, kind: str, place: "Place", quoted: bool) -> list[Candidate]:
        from geode_client.grammar.completion import Kind
        from geode_client.grammar.functions import AGGREGATES, SCALARS
        from geode_client.grammar.types import TYPE_NAMES

        assert self._known is not None
        match kind:
            case Kind.FUNCTION:
                return [Candidate(f"{name}()", f"{name}(", "function", 3) for name in SCALARS]
            case Kind.AGGREGATE:
                return [Candidate(f"{name}()", f"{name}(", "aggregate", 3) for name in AGGREGATES]
            case Kind.TYPE:
                return [Candidate(name, name, "type", 1) for name in TYPE_NAMES]
            case Kind.OPTION:
                return _options(place.options_of)
            case Kind.OPTION_VALUE:
                values = _VALUES.get((place.option or "").lower(), ())
                if place.option == "dead_letter_topic":
                    values = tuple(f"'{name}'" for name in await self._known.topics())
                return [Candidate(value, value[1:] if quoted else value) for value in values]
            case _:
                return []

    async def _fields(self, place: "Place") -> AsyncIterator[Candidate]:
        from geode_client.grammar.written import identifier

        assert self._known is not None
        for source in dict.fromkeys(place.sources):
            path = place.path
            if path and source.alias == path[0]:
                path = path[1:]
            elif not path and source.alias is not None:
                yield Candidate(source.alias, f"{source.alias}.", source.name, 1)
            for name, found in (await self._known.fields(source.name, path)).items():
                about = found.kind if len(place.sources) < 2 else f"{found.kind} · {source.name}"
                yield Candidate(name, identifier(name), about, 1 if name.startswith("_") else 0)


def best(candidates: Iterable[Candidate], prefix: str) -> list[Candidate]:
    """The candidates that fit what is typed: first those that begin with it, then those that hold it."""
    ranked = []
    for candidate in candidates:
        rank = rank_of(candidate.shown, prefix)
        if rank is not None and candidate.text != prefix:
            ranked.append((rank, candidate.group, candidate.shown.casefold(), candidate))
    ranked.sort(key=lambda entry: entry[:3])
    return [entry[3] for entry in ranked]


def rank_of(name: str, prefix: str) -> int | None:
    """How well a name fits: 0 it begins so, 1 a part of it does, 2 it holds the letters in their order; None not at all."""
    name, prefix = name.casefold(), prefix.casefold()
    if name.startswith(prefix):
        return 0
    if any(name.startswith(prefix, place + 1) for place, sign in enumerate(name) if sign in "_/.- "):
        return 1
    letters = iter(name)
    if len(prefix) > 1 and name[0] == prefix[0] and all(letter in letters for letter in prefix):
        return 2
    return None


def _invites(before: str) -> bool:
    """Whether a menu may open by itself where nothing is typed of a word yet."""
    return before.endswith((" ", ".", "(", '"')) and not before.endswith(("  ", "; "))


def _topics(names: list[str], *, patterns: bool) -> Iterable[Candidate]:
    from geode_client.grammar.written import topic

    for name in names:
        yield Candidate(name, topic(name), "topic")
    if patterns:
        for folder in sorted({name.rpartition("/")[0] for name in names if "/" in name}):
            yield Candidate(f"{folder}/*", f"{folder}/*", "pattern", 1)


def _options(options_of: str | None) -> list[Candidate]:
    from geode_client import options

    tables = {"topic": options.TOPIC_OPTIONS, "publish": options.PUBLISH_OPTIONS, "copy": options.COPY_OPTIONS}
    return [
        Candidate(name, f"{name}: ", option.description) for name, option in tables.get(options_of or "", {}).items()
    ]


def _files(typed: str) -> Iterable[Candidate]:
    """Files that COPY and \\i can read, and folders, beside what is typed of a path."""
    folder, slash, _ = typed.rpartition("/")
    with suppress(OSError):
        for path in sorted(Path(f"{folder}{slash}" or ".").expanduser().iterdir())[:OFFERED_MAX]:
            if path.is_dir() and not path.name.startswith("."):
                yield Candidate(f"{folder}{slash}{path.name}/", f"{folder}{slash}{path.name}/", "folder", 1)
            elif path.suffix in _FILES:
                yield Candidate(f"{folder}{slash}{path.name}", f"{folder}{slash}{path.name}", "file")
