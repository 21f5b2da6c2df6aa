"""Makes the pictures of the README: the shell and `geode top` as they really look, on a store with some traffic.

    make dev && .venv/bin/python docs/pictures/make.py

Both programs run in a terminal of their own, whose screen is then written as SVG; nothing on the pictures is drawn by hand.
"""

import asyncio
import io
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from terminal import TAB, Terminal

from geode_client import Client

GEODE = str(Path(sys.executable).parent / "geode")
TRAFFIC_SECONDS = 75
CITIES = ("Ulm", "Lyon", "Porto", "Turku")
# Pages that show a picture load nothing from elsewhere for it: the reader's own monospaced font is used.
FONT = "font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


async def traffic(directory: str) -> None:
    """Orders with three groups, one of which cannot keep up, and users and measurements beside them."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC orders WITH OPTIONS (max_retries: 2, retry_backoff: '200ms')")
        readers = [
            asyncio.ensure_future(_group(client, "billing", refused=0.05)),
            asyncio.ensure_future(_group(client, "shipping", condition="total > 50")),
            asyncio.ensure_future(_group(client, "reports", pause=0.02)),
            asyncio.ensure_future(_follow(client, "users/*", "plan = 'business'")),
            asyncio.ensure_future(_follow(client, "**", None)),
        ]
        await asyncio.gather(
            _publish(client, "orders", 12), _publish(client, "users/created", 2), _publish(client, "metrics/cpu", 6)
        )
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


async def _publish(client: Client, topic: str, most: int) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + TRAFFIC_SECONDS
    while loop.time() < ends:
        count = 1 + random.randrange(most * (1 + int(loop.time() / 10) % 3))
        await client.publish_batch(topic, [_message(topic) for _ in range(count)])
        await asyncio.sleep(0.1)


def _message(topic: str) -> dict[str, object]:
    match topic:
        case "orders":
            return {
                "id": f"o-{random.randrange(9999)}",
                "total": random.randrange(100),
                "ship_to": {"city": random.choice(CITIES)},
            }
        case "users/created":
            return {"user": f"u-{random.randrange(999)}", "plan": random.choice(("free", "business"))}
        case _:
            return {"core": random.randrange(4), "load": round(random.random(), 2)}


async def _group(
    client: Client, name: str, *, refused: float = 0.0, condition: str | None = None, pause: float = 0.0
) -> None:
    options = {"consumer_group": name, "consumer_id": f"{name}-1", "auto_ack": False, "filter": condition}
    async with client.subscribe("orders", **options) as subscription:  # type: ignore[arg-type]
        async for message in subscription:
            if random.random() < refused:
                await message.nack()
            else:
                await message.ack()
            await asyncio.sleep(pause)


async def _follow(client: Client, pattern: str, condition: str | None) -> None:
    async with client.subscribe(pattern, filter=condition) as subscription:
        async for _ in subscription:
            pass


def picture(terminal: Terminal, path: Path, title: str) -> None:
    """Write the screen of a terminal as SVG."""
    lines = terminal.text.split("\n")
    console = Console(record=True, width=terminal.columns, file=io.StringIO(), highlight=False)
    for row in range(len(lines)):
        line = Text(no_wrap=True, end="\n")
        for column in range(terminal.columns):
            cell = terminal.cells[row][column]
            line.append(cell.data, _style(cell))
        line.rstrip()
        console.print(line, overflow="crop")
    svg = console.export_svg(title=title, code_format=_format())
    path.write_text(svg, encoding="utf-8")
    print(path.relative_to(ROOT))


def _style(cell: object) -> Style:
    found = {name: getattr(cell, name) for name in ("fg", "bg", "bold", "italics", "reverse")}

    def colour(name: str) -> str | None:
        if name == "default":
            return None
        is_hex = len(name) == 6 and all(digit in "0123456789abcdef" for digit in name)
        named = name.replace("brown", "yellow").replace("brightbrown", "bright_yellow")
        return f"#{name}" if is_hex else named.replace("bright", "bright_") if "bright_" not in named else named

    return Style(
        color=colour(found["fg"]),
        bgcolor=colour(found["bg"]),
        bold=found["bold"],
        italic=found["italics"],
        reverse=found["reverse"],
    )


def _format() -> str:
    import re

    from rich.console import CONSOLE_SVG_FORMAT

    without = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return re.sub(r"font-family: (?:Fira Code, monospace|arial)", FONT, without)


def shell(directory: str, home: Path) -> None:
    """The shell: a query, an error with its hint, and a statement that is being completed."""
    terminal = Terminal(GEODE, ["-t", directory], home=home, cwd=home, lines=36, columns=100)
    terminal.sees("geode>")
    terminal.run("SHOW TOPICS;", "rows")
    statement = "SELECT ship_to.city AS city, count(*) AS orders, max(total) AS largest FROM orders GROUP BY city;"
    terminal.run(statement, "4 rows")
    terminal.run("SELECT total FROM SYSTEM.topcs;", "hint")
    terminal.is_reading()
    terminal.type("SUBSCRIBE TO orders WHERE tot")
    terminal.sees("number")
    terminal.type(TAB)
    terminal.sees("WHERE total")
    terminal.type(" > 90 AND ")
    terminal.sees("object")
    picture(terminal, ROOT / "docs" / "pictures" / "shell.svg", "geode")
    terminal.close()


def top(directory: str, home: Path) -> None:
    """`geode top` while the traffic goes on."""
    terminal = Terminal(GEODE, ["-t", directory, "top"], home=home, cwd=home, lines=9, columns=160)
    terminal.sees("in, last 5 min")
    terminal.sees_not("  0 in/s")
    picture(terminal, ROOT / "docs" / "pictures" / "top.svg", "geode top")
    terminal.close()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = str(Path(folder) / "data")
        running = asyncio.ensure_future(traffic(directory))
        await asyncio.sleep(TRAFFIC_SECONDS - 25)
        await asyncio.to_thread(top, "data", Path(folder))
        await running
        await asyncio.to_thread(shell, "data", Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
