"""The command `geode`: open the shell, run a script, run a statement; the commands beside it are in their own modules.

What a command needs is imported when it runs, so that the help and the first prompt come at once.
"""

import io
import signal
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from geode_client.errors import GeodeError
from geode_client.repl import data_commands, store_commands
from geode_client.repl.invocation import FORMATS, Invocation, examples, guarded, parameters

if TYPE_CHECKING:
    from geode_client.query.script import Script
    from geode_client.repl.settings import Settings

FORMAT_HELP = "How results are shown. [default: table on a terminal, else jsonl]"
PARAM_HELP = "A parameter $NAME of the statements; VALUE is JSON, else text."


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "geode                                     the shell on ./geode-data",
        "geode -t ./data -c 'SHOW TOPICS'          statements, and out",
        "geode -t ./data --format json -c 'SELECT * FROM orders' | jq",
        "geode -t ./data run examples/quickstart.gql",
    ),
)
@click.option(
    "-t",
    "--target",
    envvar="GEODE_URL",
    metavar="DIRECTORY",
    help="The store: a directory, or :memory:. [default: $GEODE_URL, else ./geode-data]",
)
@click.option("-c", "--command", "text", metavar="STATEMENTS", help="Run these statements and leave.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help=FORMAT_HELP)
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help=PARAM_HELP)
@click.version_option(package_name="geode-client", prog_name="geode")
@click.pass_context
def geode(
    context: click.Context, target: str | None, text: str | None, kind: str | None, given: tuple[str, ...]
) -> None:
    """Geode: durable publish-subscribe that speaks SQL. Without a command, the shell."""
    settings = _settings()
    context.obj = Invocation(target or settings.target, settings)
    if context.invoked_subcommand is not None:
        if text is not None or kind is not None or given:
            raise click.UsageError(
                f"-c, --format and --param before '{context.invoked_subcommand}' are not for it: give its own options after it"
            )
        return
    params = parameters(given)
    if text is not None or not sys.stdin.isatty():
        from geode_client.grammar.source import Source

        source = Source(_standard_input(), "<stdin>") if text is None else Source(text, "<command>")
        context.exit(_run(context.obj, source, params, kind, echo=False))
    from geode_client.repl.shell import shell

    chosen = settings if kind is None else msgspec.structs.replace(settings, format=kind)
    context.exit(guarded(lambda: shell(context.obj.target, chosen, params)))


@geode.command(
    epilog=examples(
        "geode run examples/quickstart.gql",
        "geode run load.gql --param day=2026-01-31 --format csv > out.csv",
        "geode run --check migrations.gql          parse and plan, run nothing",
        "generate | geode run -                    statements from standard input",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help=PARAM_HELP)
@click.option("--format", "kind", type=click.Choice(FORMATS), help=FORMAT_HELP)
@click.option("--check", is_flag=True, help="Parse and plan all statements; run none.")
@click.option("--continue-on-error", "keep_going", is_flag=True, help="Go on after an error; the exit code is still 1.")
@click.pass_context
def run(
    context: click.Context, file: Path, given: tuple[str, ...], kind: str | None, check: bool, keep_going: bool
) -> None:
    """Run the statements of FILE ('-' is standard input), in order, until the first error.

    A SUBSCRIBE takes its place and the script goes on; what later statements publish is shown as it arrives. A line `\\i
    other.gql` runs another script, beside this one. Paths in COPY are relative to the directory in which geode was started.
    """
    from geode_client.grammar.source import Source

    params = parameters(given)
    source: Source | Path = Source(_standard_input(), "<stdin>") if str(file) == "-" else file
    if check:
        context.exit(_check(context.obj, source, params))
    echo = kind == "table" or (kind is None and sys.stdout.isatty())
    context.exit(_run(context.obj, source, params, kind, echo=echo, keep_going=keep_going))


@geode.command(
    epilog=examples(
        "geode fmt script.gql                      rewrites the file",
        "geode fmt --check *.gql                   exit code 1 where something would change",
        "geode fmt - < script.gql                  from standard input to standard output",
    )
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; name the files that would change.")
@click.pass_context
def fmt(context: click.Context, files: tuple[Path, ...], check: bool) -> None:
    """Write the statements of FILES in one form: words in capitals, a clause a line, comments kept."""
    from geode_client.repl.formatting import format_files

    async def work() -> int:
        return format_files(files, _standard_input, check=check)

    context.exit(guarded(work))


@geode.command(
    epilog=examples(
        "geode completion bash > ~/.local/share/bash-completion/completions/geode",
        "geode completion zsh > ~/.zfunc/_geode",
        "geode completion fish > ~/.config/fish/completions/geode.fish",
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what makes bash, zsh or fish complete the commands of geode, their options and topics."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(geode, {}, "geode", "_GEODE_COMPLETE").source())


for command in (*data_commands.COMMANDS, *store_commands.COMMANDS):
    geode.add_command(command)


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"standard input is no UTF-8 text (byte {error.start})") from error


def _settings() -> "Settings":
    from geode_client.repl.settings import read_settings

    try:
        return read_settings()
    except GeodeError as error:
        raise click.ClickException(str(error)) from error


def _script(source: Any, *, keep_going: bool = False) -> "Script":
    from geode_client.query.script import Script

    if isinstance(source, Path):
        return Script.read(source, keep_going=keep_going)
    return Script(source, keep_going=keep_going)


def _run(
    invocation: Invocation,
    source: Any,
    params: Mapping[str, Any],
    kind: str | None,
    *,
    echo: bool,
    keep_going: bool = False,
) -> int:
    from geode_client.repl.render import Format, output_for
    from geode_client.repl.scripts import run_script

    def work() -> Coroutine[Any, Any, int]:
        output = output_for(Format(invocation.shown_format(kind)))
        script = _script(source, keep_going=keep_going)
        return run_script(invocation.client(), script, params, output, echo=echo)

    return guarded(work)


def _check(invocation: Invocation, source: Any, params: Mapping[str, Any]) -> int:
    """A store that is there is asked for its topics; none is made only to be asked."""
    from geode_client.client import Client
    from geode_client.repl.scripts import check_script

    def work() -> Coroutine[Any, Any, int]:
        script = _script(source, keep_going=True)
        try:
            client = invocation.existing_client()
        except GeodeError:
            client = Client(":memory:")
        return check_script(client, script, params)

    return guarded(work)


def _set_encodings() -> None:
    """Pipes and files are UTF-8 in every locale; a terminal has its own encoding, and shows the rest as escapes."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="strict" if stream is sys.stdin else "backslashreplace")


def main() -> None:
    """The entry point of the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _set_encodings()
    geode(prog_name="geode")
