"""The commands for whoever looks after a store: top, health, metrics, check, backup, restore."""

from pathlib import Path

import click

from geode_client.repl.invocation import FORMATS, examples, guarded


@click.command(
    epilog=examples(
        "geode -t ./data check",
        "geode -t ./data check --format jsonl || alert 'the store is damaged'",
    )
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How the problems are shown.")
@click.pass_context
def check(context: click.Context, kind: str | None) -> None:
    """Verify the store: every checksum, the logs without holes, and that no message of a group is lost or counted twice.

    Reads everything and changes nothing; others may go on writing. Exit code 1 when something is wrong.
    """

    async def work() -> int:
        import asyncio

        from geode_client.query.result import Result
        from geode_client.repl.progress import ProgressLine
        from geode_client.repl.render import Format, counted, output_for
        from geode_client.store.verify import verify

        line = ProgressLine("checking")
        report = await asyncio.to_thread(
            verify, context.obj.directory, lambda done, total: line.show(done, total, f"{done:,} batches")
        )
        line.clear()
        rows = [(problem.check, problem.place, problem.found) for problem in report.problems]
        output = output_for(Format(context.obj.shown_format(kind)))
        if rows:
            output.result(Result(("check", "place", "found"), rows))
        click.echo(
            f"{counted(report.topics, 'topic')}, {counted(report.batches, 'batch', 'batches')},"
            f" {counted(report.messages, 'message')}, {counted(report.groups, 'group')}:"
            f" {counted(len(rows), 'problem') if rows else 'everything is as it should be'}",
            err=True,
        )
        return 1 if rows else 0

    context.exit(guarded(work))


@click.command(
    epilog=examples(
        "geode -t ./data backup orders-2026-01-31.geode",
        "geode -t ./restored restore orders-2026-01-31.geode      the way back",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def backup(context: click.Context, file: Path) -> None:
    """Write a copy of the store to FILE, consistent while others go on writing.

    The copy has every message whose publish had returned when it began, and the state of all groups of that moment. FILE
    appears when it is whole. 'geode restore' makes a store of it.
    """
    from geode_client.store import backup as copies

    async def work() -> None:
        _copied("backing up", lambda progress: copies.back_up(context.obj.directory, file, progress), str(file))

    context.exit(guarded(work))


@click.command(
    epilog=examples("geode -t ./restored restore orders-2026-01-31.geode", "geode -t ./restored check"),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def restore(context: click.Context, file: Path) -> None:
    """Make a store of a copy that 'geode backup' has written, in the target directory, which must hold none."""
    from geode_client.store import backup as copies

    async def work() -> None:
        directory = context.obj.directory
        _copied("restoring", lambda progress: copies.restore(file, directory, progress), str(directory))

    context.exit(guarded(work))


def _copied(what: str, copy: "object", target: str) -> None:
    from geode_client.repl.progress import ProgressLine
    from geode_client.units import format_size

    line = ProgressLine(what)
    size = copy(lambda done, total: line.show(done, total, f"{done * 4 / 1024:,.1f} MiB"))  # type: ignore[operator]
    line.clear()
    click.echo(f"{target}: {format_size(size)}", err=True)


@click.command(
    epilog=examples(
        "geode -t ./data metrics --port 9464       http://127.0.0.1:9464/metrics, until Ctrl-C",
        "geode -t ./data metrics                   once, to standard output",
    )
)
@click.option("--port", type=click.IntRange(0, 65_535), help="Serve them on this port of the loopback address; 0: any.")
@click.option("--topics", default="**", show_default=True, metavar="PATTERN", help="Only of these topics.")
@click.pass_context
def metrics(context: click.Context, port: int | None, topics: str) -> None:
    """Show the metrics of the store in Prometheus' format, counted over all processes that use it."""

    async def work() -> None:
        import asyncio

        from geode_client import metrics as made

        context.obj.check_existing()
        if port is None:
            click.echo(await asyncio.to_thread(made.exposition, context.obj.shown_target, topics=topics), nl=False)
            return
        endpoint = made.serve(context.obj.shown_target, port, topics=topics)
        click.echo(f"serving {endpoint.url}; Ctrl-C ends it", err=True)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(endpoint.close)

    context.exit(guarded(work))


@click.command(
    epilog=examples(
        "geode -t ./data health                    all topics and groups: lag and error rates",
        "geode -t ./data health critical_events --group processors",
        "geode -t ./data health orders --min-throughput 0 --max-lag 500 || page-somebody",
    )
)
@click.argument("topic", default="**", metavar="[TOPIC]")
@click.option("--group", help="Only this group.")
@click.option("--max-lag", type=click.IntRange(0), default=10_000, show_default=True, help="Messages not settled yet.")
@click.option("--max-error-rate", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Over 5 minutes.")
@click.option(
    "--min-throughput", type=click.FloatRange(0), help="Messages a second. [default: 100 where TOPIC is named]"
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How the checks are shown.")
@click.pass_context
def health(
    context: click.Context,
    /,
    topic: str,
    group: str | None,
    max_lag: int,
    max_error_rate: float,
    min_throughput: float | None,
    kind: str | None,
) -> None:
    """Check lag, error rate and throughput of a topic or pattern against limits. Exit code 1 when one is passed."""

    async def work() -> int:
        from geode_client.query.result import Result
        from geode_client.repl.render import Format, output_for

        async with context.obj.existing_client() as client:
            found = await client.health(
                topic, group, lag_max=max_lag, error_rate_max=max_error_rate, throughput_min=min_throughput
            )
        rows = [(c.check, c.topic, c.group, c.value, c.limit, "ok" if c.ok else "ALERT") for c in found.checks]
        columns = ("check", "topic", "group", "value", "limit", "status")
        output_for(Format(context.obj.shown_format(kind))).result(Result(columns, rows))
        for check in found.alerts:
            click.echo(str(check), err=True)
        return 0 if found else 1

    context.exit(guarded(work))


@click.command(
    epilog=examples(
        "geode -t ./data top                       a live screen; q leaves, ? lists the keys",
        "geode -t ./data top --once                one look, as tables",
        "geode -t ./data top --once --format jsonl | jq",
    )
)
@click.option("--once", is_flag=True, help="Print one snapshot and leave.")
@click.option("--sort", metavar="COLUMN", help="The column that decides the order.")
@click.option("--topics", default="**", show_default=True, metavar="PATTERN", help="Only these topics.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="How a snapshot is shown.")
@click.pass_context
def top(
    context: click.Context, /, once: bool, sort: str | None, topics: str, interval: float, kind: str | None
) -> None:
    """Show topics, groups and subscribers live: rates, lag, what is in flight, redelivered, dead, and on disk."""
    import sys

    async def work() -> None:
        from geode_client.repl import top as screen

        async with context.obj.existing_client() as client:
            if once or not sys.stdout.isatty():
                await screen.print_once(client, topics, sort, context.obj.shown_format(kind))
            else:
                await screen.run(client, topics, sort, interval)

    context.exit(guarded(work, until_pipe_closes=True))


COMMANDS = (check, backup, restore, metrics, health, top)
