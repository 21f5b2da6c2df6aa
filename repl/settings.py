"""How the shell and the commands behave: a file, and variables that go before it.

The file is `~/.config/geode/config.toml` (or below $XDG_CONFIG_HOME, or $GEODE_CONFIG names it). Each of its keys has a
variable: `GEODE_FORMAT` for `format`. `target` is $GEODE_URL. What the command line says goes before both.

    target = "/var/lib/geode"      # a data directory
    format = "table"               # table, vertical, json, jsonl, csv, markdown: on a terminal
    expanded = "auto"              # on: one field a line; auto: where the headings do not fit; off
    timing = true
    pager = "less -RSFX"           # a command; "on" takes $PAGER or less; "off"
    confirm = true                 # ask before statements that destroy
    editing = "emacs"              # or vi
    completion = true              # offer while typing; Tab always does
    prompt = "geode> "
    history = "~/.local/state/geode/history"
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from geode_client.grammar.errors import GeodeError, did_you_mean

FormatName = Literal["table", "vertical", "json", "jsonl", "csv", "markdown"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person has chosen, or the defaults."""

    target: str | None = None
    format: FormatName = "table"
    expanded: Literal["on", "off", "auto"] = "auto"
    timing: bool = True
    pager: str = "on"
    confirm: bool = True
    editing: Literal["emacs", "vi"] = "emacs"
    completion: bool = True
    prompt: str = "geode> "
    history: str | None = None


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this person; raises GeodeError that says what is wrong in which place."""
    environment = os.environ if environment is None else environment
    path = config_path(environment)
    chosen = _from_file(path, required=bool(environment.get("GEODE_CONFIG")))
    settings = _checked(chosen, str(path))
    named = {name: environment.get(variable(name), "") for name in Settings.__struct_fields__}
    given = {name: value for name, value in named.items() if value}
    for name, value in given.items():
        _checked({name: value}, variable(name))
    kept = {name: getattr(settings, name) for name in Settings.__struct_fields__}
    return _checked({**kept, **given}, "settings") if given else settings


def variable(name: str) -> str:
    """The variable that goes before a key of the file."""
    return "GEODE_URL" if name == "target" else f"GEODE_{name.upper()}"


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the file is, or would be."""
    named = environment.get("GEODE_CONFIG")
    if named:
        return Path(named).expanduser()
    folder = environment.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "geode" / "config.toml"


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise GeodeError(f"{path}: there is no such file ($GEODE_CONFIG names it)") from None
        return {}
    except OSError as error:
        raise GeodeError(f"{path}: {error.strerror or error}") from error
    import tomllib

    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GeodeError(f"{path}: {error}") from error


def _checked(chosen: Mapping[str, Any], place: str) -> Settings:
    for name in chosen:
        if name not in Settings.__struct_fields__:
            known = did_you_mean(name, Settings.__struct_fields__)
            raise GeodeError(
                f"{place}: unknown key {name}: {known or 'known are ' + ', '.join(Settings.__struct_fields__)}"
            )
    try:
        return msgspec.convert(chosen, Settings, strict=False)
    except msgspec.ValidationError as error:
        message = str(error).replace(" - at `$.", " at `").lower()
        raise GeodeError(f"{place}: {message}") from error
