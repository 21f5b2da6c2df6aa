"""The shell's own commands: their names, what they take, what they do. Running them is `evaluator.py`'s.

Every command has a form with a backslash and one with a dot. Imports nothing heavy: the first prompt needs this table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `takes` is topic, file, a text in capitals, or the words that may follow, joined by |."""

    name: str
    about: str
    takes: str = ""
    dotted: tuple[str, ...] = ()
    shows: str = ""

    @property
    def forms(self) -> tuple[str, ...]:
        """All ways to write it; the first is its name."""
        return (f"\\{self.name}", f".{self.name}", *(f".{dotted}" for dotted in self.dotted))


FORMATS = ("table", "vertical", "json", "jsonl", "csv", "markdown")

COMMANDS = (
    Command("?", "what there is: commands, keys", dotted=("help",)),
    Command("h", "how a statement is written", "STATEMENT", shows="[statement]"),
    Command("q", "leave", dotted=("quit", "exit")),
    Command("d", "columns, delivery and options of a topic", "topic", shows="TOPIC"),
    Command("dt", "topics with their messages, and your own tables", "topic", dotted=("tables",), shows="[PATTERN]"),
    Command("ds", "subscribers", "", dotted=("subscribers",)),
    Command("dg", "durable groups", "", dotted=("groups",)),
    Command("dc", "the statement that makes a topic again", "topic", dotted=("schema",), shows="TOPIC"),
    Command("x", "rows shown one field a line", "on|off|auto", shows="[on|off|auto]"),
    Command("format", "how results are shown", "|".join(FORMATS), dotted=("mode",), shows="[NAME]"),
    Command("timing", "how long statements took", "on|off", dotted=("timer",), shows="[on|off]"),
    Command("pager", "long results in a pager", "on|off", shows="[on|off|COMMAND]"),
    Command("watch", "run the last statement again and again", "SECONDS", shows="[SECONDS]"),
    Command("o", "results into a file; without one to the screen", "file", dotted=("output",), shows="[FILE]"),
    Command("i", "run a script", "file", dotted=("read",), shows="FILE"),
    Command("e", "edit the last statement, or a file, and run it", "file", dotted=("edit",), shows="[FILE]"),
    Command("set", "parameters $NAME of statements", "NAME VALUE", shows="[NAME [VALUE]]"),
    Command("g", "run the last statement again", ""),
    Command("conninfo", "where the shell is connected to", "", dotted=("target",)),
)

BARE_WORDS = {"help": "?", "?": "?", "quit": "q", "exit": "q"}
"""What people type without a backslash."""


def is_command(text: str) -> bool:
    """Whether a text is a command of the shell rather than a statement."""
    stripped = text.lstrip()
    return stripped[:1] == "\\" or (stripped[:1] == "." and stripped[1:2].isalpha() and "\n" not in stripped)


def read_command(text: str) -> tuple[str, str] | None:
    """Name and argument of a command; None for a statement. The name is as written where no command has it."""
    stripped = text.strip()
    bare = BARE_WORDS.get(stripped.rstrip(";").strip().casefold())
    if bare is not None:
        return bare, ""
    if not is_command(stripped):
        return None
    head, _, argument = stripped.partition(" ")
    head = head.rstrip(";")
    known = next((command.name for command in COMMANDS if head in command.forms), head)
    return known, argument.strip().rstrip(";").strip()
