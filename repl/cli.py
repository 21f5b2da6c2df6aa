"""The command `geode`: open the shell, run a script, run a statement.

Errors go to standard error as `file:line:column: message` with the line and a caret; no traceback reaches a person. Exit
codes: 0 done, 1 a statement failed, 2 the command line is wrong, 130 interrupted.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from geode_client.errors import GeodeError

if TYPE_CHECKING:
    from geode_client.client import Client
    from geode_client.query.script import Script
    from geode_client.repl.render import Format, Output

FORMATS = ("table", "json", "jsonl", "csv")
INTERRUPTED = 130
PIPE_CLOSED = 141


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "-t",
    "--target",
    envvar="GEODE_URL",
    metavar="DIRECTORY",
    help="The store: a directory, or :memory:. [default: $GEODE_URL, else ./geode-data]",
)
@click.option("-c", "--command", "text", metavar="STATEMENTS", help="Run these statements and leave.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How results are shown. [default: table]")
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter $NAME of the statements; VALUE is JSON, else text.",
)
@click.version_option(package_name="geode-client", prog_name="geode")
@click.pass_context
def geode(
    context: click.Context, target: str | None, text: str | None, kind: str | None, given: tuple[str, ...]
) -> None:
    """Geode: durable publish-subscribe that speaks SQL. Without a command, the shell."""
    context.obj = target
    if context.invoked_subcommand is not None:
        if text is not None or kind is not None or given:
            raise click.UsageError(
                f"-c, --format and --param before '{context.invoked_subcommand}' are not for it: give its own options after it"
            )
        return
    params = parameters(given)
    if text is not None:
        from geode_client.grammar.source import Source

        context.exit(_run(target, Source(text, "<command>"), params, kind, echo=False))
    if not sys.stdin.isatty():
        from geode_client.grammar.source import Source

        context.exit(_run(target, Source(_standard_input(), "<stdin>"), params, kind, echo=False))
    from geode_client.repl.shell import shell

    context.exit(_guarded(lambda: shell(_client(target), _format(kind), params)))


@geode.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter $NAME of the script; VALUE is JSON, else text.",
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How results are shown. [default: table]")
@click.option("--check", is_flag=True, help="Parse and plan all statements; run none.")
@click.pass_context
def run(context: click.Context, file: Path, given: tuple[str, ...], kind: str | None, check: bool) -> None:
    """Run the statements of FILE ('-' is standard input), in order, until the first error.

    A SUBSCRIBE takes its place and the script goes on; what later statements publish is shown as it arrives. Paths in
    COPY are relative to the directory in which geode was started.
    """
    from geode_client.grammar.source import Source

    params = parameters(given)
    source: Source | Path = Source(_standard_input(), "<stdin>") if str(file) == "-" else file
    if check:
        context.exit(_check(context.obj, source, params))
    context.exit(_run(context.obj, source, params, kind, echo=kind in (None, "table")))


def parameters(given: tuple[str, ...]) -> dict[str, Any]:
    """Values by name from NAME=VALUE; a VALUE that is no JSON is text."""
    found: dict[str, Any] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name.isidentifier():
            raise click.UsageError(f"--param takes NAME=VALUE with a plain name, not {one!r}")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = value
    return found


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"standard input is no UTF-8 text (byte {error.start})") from error


def _client(target: str | None) -> "Client":
    from geode_client.client import Client

    return Client(target)


def _format(kind: str | None) -> "Format":
    from geode_client.repl.render import Format

    return Format(kind or "table")


def _script(source: Any) -> "Script":
    from geode_client.query.script import Script

    return Script.read(source) if isinstance(source, Path) else Script(source)


def _run(target: str | None, source: Any, params: Mapping[str, Any], kind: str | None, *, echo: bool) -> int:
    from geode_client.repl.render import output_for
    from geode_client.repl.scripts import run_script

    def work() -> Coroutine[Any, Any, None]:
        output: Output = output_for(_format(kind))
        return run_script(_client(target), _script(source), params, output, echo=echo)

    return _guarded(work)


def _check(target: str | None, source: Any, params: Mapping[str, Any]) -> int:
    """A store that is there is asked for its topics; none is made only to be asked."""
    from geode_client.repl.scripts import check_script

    def work() -> Coroutine[Any, Any, None]:
        from geode_client.client import DEFAULT_TARGET

        script = _script(source)
        folder = Path(target or DEFAULT_TARGET)
        chosen = target if "://" in (target or "") or (folder / "geode.db").exists() else ":memory:"
        click.echo(f"{len(script.statements)} statements", err=True)
        return check_script(_client(chosen), script, params)

    return _guarded(work)


def _guarded(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run to the end; the exit code, with every error told in words."""
    try:
        asyncio.run(work())
        sys.stdout.flush()
    except GeodeError as error:
        return _told(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has had enough; and Python must not complain of it when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        return _told(GeodeError(f"{error.filename or 'system'}: {error.strerror or error}"))
    except RecursionError:
        return _told(GeodeError("a value or statement is nested too deeply"))
    return 0


def _told(error: GeodeError) -> int:
    from geode_client.repl.render import safe

    sys.stdout.flush()
    click.echo("\n".join(safe(line) for line in error.render().split("\n")), err=True)
    return 1


def main() -> None:
    """The entry point of the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    geode(prog_name="geode")
