"""The commands that move messages: publish, subscribe."""

import sys
from typing import Any

import click

from geode_client.errors import GeodeError
from geode_client.options import FILE_FORMATS
from geode_client.repl.invocation import FORMATS, INTERRUPTED, Invocation, examples, guarded, parameters


def _topics(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of topics for the completion of bash, zsh and fish; nothing where there is no store."""
    from geode_client.client import broker_of

    found: list[str] = []

    async def ask() -> None:
        target = context.find_root().params.get("target")
        async with Invocation(target, None).existing_client() as client:  # type: ignore[arg-type]
            found.extend(topic.name for topic in await broker_of(client).topics())

    import asyncio
    import contextlib

    with contextlib.suppress(Exception):  # a completion that fails is an empty one
        asyncio.run(ask())
    return [name for name in found if name.startswith(incomplete)]


@click.command(
    epilog=examples(
        'geode publish orders \'{"id": "o-1", "total": 12.5}\'',
        "geode publish orders orders.jsonl --key-field customer_id",
        "geode publish orders 'exports/*.csv.gz' --id-field id --on-error skip --error-file bad.jsonl",
        "tail -F app.log.jsonl | geode publish logs -        each line is stored as it comes",
    )
)
@click.argument("topic", shell_complete=_topics)
@click.argument("messages", nargs=-1, metavar="[JSON | - | FILE]...")
@click.option("--key", help="The key of all messages; those of one key stay in order.")
@click.option("--key-field", metavar="FIELD", help="The field or path whose value is the key.")
@click.option("--id-field", metavar="FIELD", help="The field or path whose value is the id; a known id stores nothing.")
@click.option("--timestamp-field", metavar="FIELD", help="The field or path whose value is the message's time.")
@click.option("--timestamp-format", metavar="FORMAT", help="'seconds', 'milliseconds', or such as '%d/%m/%Y %H:%M'.")
@click.option("--from-format", type=click.Choice(FILE_FORMATS), help="How files are read. [default: by their ending]")
@click.option("--encoding", help="Of files that are not UTF-8, such as latin-1.")
@click.option("--on-error", type=click.Choice(("stop", "skip")), help="'skip' counts bad records and goes on.")
@click.option("--error-file", metavar="FILE", help="JSON lines with the bad records that were skipped.")
@click.option("--error-topic", metavar="TOPIC", help="Topic for the bad records that were skipped.")
@click.option("--priority", help="0 to 9, or low, normal, high, critical.")
@click.option("--ttl", metavar="DURATION", help="Not delivered after this time, such as '1 hour'.")
@click.option("--delay", metavar="DURATION", help="Not delivered before this time.")
@click.option("--batch-size", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Stored together.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How the result is shown.")
@click.pass_context
def publish(context: click.Context, /, topic: str, messages: tuple[str, ...], kind: str | None, **options: Any) -> None:
    """Store messages in TOPIC: JSON values, files (.jsonl .json .csv .tsv .parquet, also .gz .zst), or '-' for standard input.

    Without messages those of standard input, one JSON value a line; they are stored as they come.
    """
    if not messages and sys.stdin.isatty():
        raise click.UsageError("there is nothing to publish: give JSON, a file, or '-' to read standard input")

    async def work() -> None:
        from geode_client.query.result import Result
        from geode_client.repl.publishing import Publisher
        from geode_client.repl.render import Format, output_for

        async with context.obj.client() as client:
            options["format"] = options.pop("from_format")
            publisher = Publisher(client, topic, **options)
            for message in messages or ("-",):
                await publisher.take(message)
        shown = Format(context.obj.shown_format(kind))
        counts = (publisher.count, publisher.duplicates)
        for notice in publisher.notices:
            click.echo(f"notice: {notice}", err=True)
        if shown in (Format.TABLE, Format.VERTICAL):
            known = f", {counts[1]:,} known already" if counts[1] else ""
            output_for(shown).result(Result(message=f"{counts[0]:,} published to {topic}{known}"))
        else:
            output_for(shown).result(Result(("topic", "published", "duplicates"), [(topic, *counts)]))

    context.exit(guarded(work))


@click.command(
    epilog=examples(
        "geode subscribe 'users/*' --where \"plan = 'business'\"",
        "geode subscribe orders --from-beginning --format csv > orders.csv",
        "geode subscribe orders --group workers | while read -r line; do …; done",
        "geode subscribe orders --limit 3 --body | jq .total",
    )
)
@click.argument("pattern", shell_complete=_topics)
@click.option("--where", metavar="CONDITION", help="Only messages for which the condition is true.")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="A parameter $NAME of the condition.")
@click.option("--group", help="Share the messages with all who name this durable group.")
@click.option("--consumer", help="The name of this member of the group.")
@click.option("--from-beginning", is_flag=True, help="Begin with what is retained.")
@click.option("--from-offset", type=click.IntRange(0), help="Begin at this offset of the topic.")
@click.option("--since", metavar="TIME", help="Begin at '2026-01-31T12:00:00Z', or so long ago: '1 hour'.")
@click.option("--follow/--no-follow", default=None, help="After a replay go on with what comes, or end. [default: end]")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@click.option("--key", help="Only messages with this key.")
@click.option("--priority-order", is_flag=True, help="Messages of higher priority first.")
@click.option("--ordering", is_flag=True, help="Messages of one key in order, also across the group.")
@click.option("--limit", type=click.IntRange(1), help="End after so many messages.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="End after so long without a message.")
@click.option("--body", is_flag=True, help="Print the messages alone, as JSON lines.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="[default: table on a terminal, else jsonl]")
@click.pass_context
def subscribe(
    context: click.Context, /, pattern: str, given: tuple[str, ...], body: bool, kind: str | None, **options: Any
) -> None:
    """Print the messages of a topic or PATTERN ('users/*', '**') as they come, until Ctrl-C.

    With a group a message counts as done once it has been written out.
    """
    params = parameters(given)

    async def work() -> int:
        from geode_client.repl.live import Tail
        from geode_client.repl.render import BodyOutput, Format, output_for

        output = BodyOutput(sys.stdout) if body else output_for(Format(context.obj.shown_format(kind)))
        async with context.obj.client() as client:
            subscription = client.subscribe(
                pattern,
                filter=options["where"],
                params=params,
                consumer_group=options["group"],
                consumer_id=options["consumer"],
                from_beginning=options["from_beginning"],
                from_offset=options["from_offset"],
                since=_since(options["since"]),
                follow=options["follow"],
                partition=options["partition"],
                partition_key_filter=options["key"],
                priority_order=options["priority_order"],
                ordering=options["ordering"],
                limit=options["limit"],
                timeout=options["timeout"],
            )
            await subscription.open()
            has_ended = await Tail(client, subscription, output, sys.stdout, summary=sys.stderr).run()
        return 0 if has_ended else INTERRUPTED

    context.exit(guarded(work, until_pipe_closes=True))


def _since(text: str | None) -> Any:
    """A time, or how long ago: both are text here."""
    if text is None:
        return None
    from geode_client.units import parse_duration_us
    from geode_client.values import parse_timestamp

    at = parse_timestamp(text)
    if at is not None:
        return at
    try:
        parse_duration_us(text)
    except GeodeError as error:
        raise GeodeError(f"--since takes a time or a duration ('1 hour'): {error}") from error
    return text


COMMANDS = (publish, subscribe)
