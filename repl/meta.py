"""Running the shell's own commands; `commands.py` is the table of them."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from geode_client.client import broker_of
from geode_client.errors import GeodeError, did_you_mean
from geode_client.grammar.source import Source
from geode_client.grammar.written import quoted, topic
from geode_client.query import system
from geode_client.query.result import Result
from geode_client.query.script import Script
from geode_client.repl.commands import COMMANDS, FORMATS
from geode_client.repl.errors import SHELL_NAME
from geode_client.repl.render import Format, output_for, safe

if TYPE_CHECKING:
    from geode_client.repl.evaluator import Evaluator

WATCH_SECONDS = 2.0
WATCH_SECONDS_MIN = 0.1

Run = Callable[["Evaluator", str], Awaitable[bool | None]]


async def run_command(shell: "Evaluator", name: str, argument: str) -> bool:
    """Run a command; gives whether the shell goes on. Raises GeodeError."""
    run = _RUN.get(name)
    if run is None:
        forms = [form for command in COMMANDS for form in command.forms]
        hint = did_you_mean(name, forms) or "\\? lists the commands"
        raise GeodeError(f"there is no command {name}: {hint}")
    return (await run(shell, argument)) is not False


async def _leave(shell: "Evaluator", argument: str) -> bool:
    return False


async def _help(shell: "Evaluator", argument: str) -> None:
    rows = []
    for command in COMMANDS:
        also = ", ".join(form for form in command.forms[1:] if form != f".{command.name}")
        rows.append((f"{command.forms[0]} {command.shows}".strip(), command.about, also))
    await shell.show(Result(("command", "what it does", "also"), rows))
    print(
        "Every command also begins with a dot. A statement ends with ; and may have several lines.\n"
        "Tab completes, Right takes the suggestion, Ctrl-R searches the history, Ctrl-X Ctrl-E opens the editor,\n"
        "Alt-Enter runs what stands there. Ctrl-C cancels, Ctrl-D leaves. \\h shows how statements are written."
    )


async def _statements(shell: "Evaluator", argument: str) -> None:
    from geode_client.repl.forms import FORMS

    wanted = argument.upper()
    rows = [(form, about) for form, about in FORMS if not wanted or wanted in form.upper()]
    if not rows:
        raise GeodeError(f"no statement has {argument}: \\h alone lists all")
    await shell.show(Result(("statement", "what it does"), rows))


def _statement(text: Callable[[str], str]) -> Run:
    """A command that is short for a statement."""

    async def run(shell: "Evaluator", argument: str) -> None:
        source = Source(text(argument), SHELL_NAME)
        for statement, _ in Script(source).statements:
            await shell.run_one(statement, source)

    return run


def _topic_argument(argument: str, name: str) -> str:
    if not argument:
        raise GeodeError(f"\\{name} takes the name of a topic; \\dt lists them")
    return topic(argument.strip("\"'`"))


async def _describe(shell: "Evaluator", argument: str) -> None:
    table = argument.lower().removeprefix("system.")
    if not argument:
        await _RUN["dt"](shell, "")  # without a name \d lists, as people know it
    elif table != argument.lower() and table in system.TABLES:
        await shell.show(Result(("column",), [(name,) for name in system.TABLES[table]]))
    else:
        await _describe_topic(shell, argument)


_describe_topic = _statement(lambda argument: f"DESCRIBE TOPIC {_topic_argument(argument, 'd')}")


async def _list(shell: "Evaluator", argument: str) -> None:
    """Topics, and the user's own tables where there are any."""
    await _statement(_list_topics)(shell, argument)
    tables = broker_of(shell.client).tables
    if tables is not None and await tables.names():
        name = quoted(argument.strip("'\"").replace("*", "%"))
        where = f" WHERE table_name LIKE {name}" if argument else ""
        await _statement(lambda _: f"SELECT table_name, kind, columns FROM SYSTEM.tables{where} ORDER BY table_name")(
            shell, ""
        )


def _list_topics(argument: str) -> str:
    pattern = argument.strip("'\"")
    return "SHOW TOPICS" + (f" LIKE {quoted(pattern)}" if pattern else "")


async def _expanded(shell: "Evaluator", argument: str) -> None:
    state = shell.state
    if argument not in ("", "on", "off", "auto"):
        raise GeodeError(f"\\x takes on, off or auto, not {argument}")
    state.expanded = argument or ("off" if state.expanded == "on" else "on")
    print(f"expanded display is {state.expanded}")


async def _format(shell: "Evaluator", argument: str) -> None:
    if argument and argument not in FORMATS:
        raise GeodeError(f"\\format takes {', '.join(FORMATS)}: {did_you_mean(argument, FORMATS) or argument}")
    if argument:
        shell.state.format = Format(argument)
        if shell.state.file is not None:
            shell.state.file_output = output_for(shell.state.format, shell.state.file)
    print(f"format is {shell.state.format}")


async def _timing(shell: "Evaluator", argument: str) -> None:
    if argument not in ("", "on", "off"):
        raise GeodeError(f"\\timing takes on or off, not {argument}")
    shell.state.timing = argument == "on" if argument else not shell.state.timing
    print(f"timing is {'on' if shell.state.timing else 'off'}")


async def _pager(shell: "Evaluator", argument: str) -> None:
    shell.state.pager = argument or ("off" if shell.state.pager != "off" else "on")
    print(f"pager is {safe(shell.state.pager)}")


async def _output(shell: "Evaluator", argument: str) -> None:
    shell.write_to(Path(argument.strip("'\"")) if argument else None)
    print(f"results go to {safe(argument)}" if argument else "results go to the screen")


async def _include(shell: "Evaluator", argument: str) -> None:
    if not argument:
        raise GeodeError("\\i takes the name of a script")
    await shell.include(Path(argument.strip("'\"")).expanduser())


async def _edit(shell: "Evaluator", argument: str) -> None:
    text = await shell.edit(Path(argument.strip("'\"")).expanduser() if argument else None)
    if text.strip():
        print(safe(text.strip()) if "\n" not in text.strip() else "\n".join(map(safe, text.strip().split("\n"))))
        await shell.run_statements(text)


async def _again(shell: "Evaluator", argument: str) -> None:
    if not shell.state.last:
        raise GeodeError("there is no statement yet that could run again")
    await shell.run_statements(shell.state.last)


async def _watch(shell: "Evaluator", argument: str) -> None:
    try:
        seconds = max(WATCH_SECONDS_MIN, float(argument or WATCH_SECONDS))
    except ValueError:
        raise GeodeError(f"\\watch takes a number of seconds, not {argument}") from None
    if not shell.state.last:
        raise GeodeError("there is no statement yet that could be watched")
    source = Source(shell.state.last, SHELL_NAME)
    statements = Script(source).statements
    pager, shell.state.pager = shell.state.pager, "off"
    try:
        while True:
            due = time.monotonic() + seconds
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            print(f"every {seconds:g} s · {datetime.now():%H:%M:%S} · Ctrl-C ends it")
            for statement, _ in statements:
                await shell.run_one(statement, source, quiet=True)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    finally:
        shell.state.pager = pager


async def _set(shell: "Evaluator", argument: str) -> None:
    name, _, value = argument.partition(" ")
    parameters = shell.state.parameters
    if not name:
        await shell.show(Result(("parameter", "value"), [(f"${key}", one) for key, one in sorted(parameters.items())]))
    elif not name.lstrip("$").isidentifier():
        raise GeodeError(f"a parameter has a plain name, not {name}")
    elif not value.strip():
        parameters.pop(name.lstrip("$"), None)
    else:
        parameters[name.lstrip("$")] = value_of(value.strip())


def value_of(text: str) -> Any:
    """The value that a text means as a parameter: JSON, or else the text itself; 'quoted' is always text."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


async def _connection(shell: "Evaluator", argument: str) -> None:
    broker = broker_of(shell.client)
    target = (
        broker.target if broker.target.startswith(":") or "://" in broker.target else os.path.abspath(broker.target)
    )
    print(f"{safe(target)} · process {os.getpid()}")
    for lacking, why in broker.capabilities.missing().items():
        print(f"  without {lacking.replace('_', ' ')}{f': {why}' if why else ''}")


_RUN: Mapping[str, Run] = {
    "?": _help,
    "h": _statements,
    "q": _leave,
    "d": _describe,
    "dt": _list,
    "ds": _statement(lambda argument: "SHOW SUBSCRIBERS"),
    "dg": _statement(lambda argument: "SHOW SUBSCRIPTIONS"),
    "dc": _statement(lambda argument: f"SHOW CREATE TOPIC {_topic_argument(argument, 'dc')}"),
    "x": _expanded,
    "format": _format,
    "timing": _timing,
    "pager": _pager,
    "watch": _watch,
    "o": _output,
    "i": _include,
    "e": _edit,
    "set": _set,
    "g": _again,
    "conninfo": _connection,
}
