"""The input line: history, suggestions, completion, colours, several lines. Runs nothing.

Imports prompt-toolkit and what it needs of the language, and no more: this is what stands between starting `geode` and
the first prompt.
"""

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, get_common_complete_suffix
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, completion_is_selected, has_completions, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from geode_client.grammar.errors import GqlError, Unfinished
from geode_client.grammar.scan import statement_is_complete, unfinished_part
from geode_client.repl.commands import read_command
from geode_client.repl.completer import StatementCompleter
from geode_client.repl.highlight import STYLE, StatementLexer
from geode_client.repl.settings import Settings

HISTORY_BYTES_MAX = 4 * 1024 * 1024

_STYLE = Style.from_dict(
    {
        **STYLE,
        "prompt": "bold ansicyan",
        "continuation": "ansibrightblack",
        "rprompt": "ansibrightblack",
        "auto-suggestion": "ansibrightblack",
        "completion-menu.meta.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.meta.completion.current": "bg:ansiwhite ansiblack",
    }
)


class Prompt:
    """One input line after the other."""

    def __init__(self, settings: Settings, completer: StatementCompleter) -> None:
        self._settings = settings
        self.session: PromptSession[str] = PromptSession(
            message=[("class:prompt", settings.prompt)],
            history=_history(settings.history),
            auto_suggest=AutoSuggestFromHistory(),
            completer=completer,
            complete_while_typing=settings.completion,
            lexer=StatementLexer(),
            style=_STYLE,
            include_default_pygments_style=False,
            multiline=Condition(lambda: is_unfinished(self.session.default_buffer.text)),
            prompt_continuation=_continuation,
            rprompt=lambda: _what_is_open(self.session.default_buffer.text),
            key_bindings=_bindings(completer),
            editing_mode=EditingMode.VI if settings.editing == "vi" else EditingMode.EMACS,
            enable_open_in_editor=True,
            enable_suspend=True,
            tempfile_suffix=".gql",
            reserve_space_for_menu=6,
        )
        # Up and down look for what begins like the line; prompt-toolkit would then offer nothing while typing, unless it
        # is told past the session.
        self.session.default_buffer.enable_history_search = Condition(lambda: True)

    async def read(self, default: str = "") -> str:
        """The next text. Raises KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D."""
        return await self.session.prompt_async(default=default, handle_sigint=False)

    def on_first_display(self, begin: Callable[[], None]) -> None:
        """Call `begin` once the first prompt stands on the screen."""
        waiting = [begin]

        def shown(_: object) -> None:
            if waiting:
                waiting.pop()()

        self.session.app.after_render += shown


@lru_cache(maxsize=4)
def is_unfinished(text: str) -> bool:
    """Whether Enter goes on to the next line instead of running the text."""
    return (
        bool(text.strip())
        and read_command(text) is None
        and not _ends_with_command(text)
        and not statement_is_complete(text)
    )


def _ends_with_command(text: str) -> bool:
    return split_command(text) is not None


def split_command(text: str) -> tuple[str, str] | None:
    """A statement and the command behind it, as in `SELECT 1 \\watch 2`; None where there is none."""
    head, backslash, tail = text.rpartition("\\")
    name = tail.split(" ")[0].strip()
    if not backslash or name not in ("watch", "g", "gx", "x", "G") or not head.strip():
        return None
    try:
        unfinished_part(head)
    except (Unfinished, GqlError):
        return None  # the backslash stands inside a text
    return head, f"\\{tail}"


@lru_cache(maxsize=4)
def _what_is_open(text: str) -> StyleAndTextTuples:
    """What a line that Enter would not run is waiting for."""
    if not is_unfinished(text):
        return []
    try:
        unfinished_part(text)
    except Unfinished as error:
        return [("class:rprompt", error.message.removeprefix("this ").removesuffix(" is not closed") + " is open")]
    except GqlError:
        return []
    return [("class:rprompt", "; runs it")] if "\n" in text else []


def _continuation(width: int, line: int, wrapped: int) -> StyleAndTextTuples:
    return [("class:continuation", " " * max(0, width - 2) + "· ")]


def _bindings(completer: StatementCompleter) -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        """Run what stands there, finished or not: the error says what is missing."""
        event.current_buffer.validate_and_handle()

    @bindings.add("enter", filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        """Take what is chosen in the menu, and stay in the line."""
        event.current_buffer.complete_state = None

    @bindings.add("tab", filter=~has_completions & ~is_searching)
    def _(event: KeyPressEvent) -> None:
        """Complete what is typed; a key that comes before the menu is not lost."""
        event.app.create_background_task(_complete(event.current_buffer, completer))

    return bindings


async def _complete(buffer: Buffer, completer: StatementCompleter) -> None:
    """Write the one completion there is, or what all have in common, and else open the menu."""
    document = buffer.document
    asked = CompleteEvent(completion_requested=True)
    found = [completion async for completion in completer.get_completions_async(document, asked)]
    if buffer.document != document or not found:
        return
    if len(found) == 1:
        buffer.apply_completion(found[0])
        return
    suffix = get_common_complete_suffix(document, found)
    if suffix:
        buffer.insert_text(suffix)
    buffer.start_completion(select_first=False)


def _history(named: str | None) -> History:
    """The history file, readable by its owner only; kept in memory where it cannot be written."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path.home() / ".local" / "state"
    path = Path(named).expanduser() if named else folder / "geode" / "history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        if path.stat().st_size > HISTORY_BYTES_MAX:
            _shorten(path)
        return FileHistory(str(path))
    return InMemoryHistory()


def _shorten(path: Path) -> None:
    """Keep the newer half: an entry begins with an empty line."""
    kept = path.read_bytes()[-HISTORY_BYTES_MAX // 2 :].partition(b"\n\n")[2]
    unfinished = path.with_suffix(".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(b"\n" + kept)
    unfinished.replace(path)
