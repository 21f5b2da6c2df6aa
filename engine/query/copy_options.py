"""The options of COPY as records: which of them go together, and which a format does not have."""

from collections.abc import Iterable, Mapping
from typing import Any

from geode_client import options
from geode_client.errors import GqlError
from geode_client.options import Entry, Given
from geode_client.query.csv_files import CsvOptions
from geode_client.query.exporting import WriteOptions
from geode_client.query.fields import time_format
from geode_client.query.formats import format_of
from geode_client.query.loading import LoadOptions

Entries = Iterable[Entry | Given] | Mapping[str, Any]

_OF_CSV = ("delimiter", "quote", "null", "header", "quoted", "infer", "types", "escape_formulas")


def load_options(path: str, entries: Entries, fixed: dict[str, Any] | None = None) -> LoadOptions:
    """The options of COPY FROM; raises GqlError with the place of what is wrong."""
    entries = [Given(name, value) for name, value in entries.items()] if isinstance(entries, Mapping) else list(entries)
    given = options.parse_options(entries, options.COPY_FROM_OPTIONS, "COPY option")
    _check_format(path, entries, given, ("csv", "tsv"))
    for name in ("error_file", "error_topic"):
        if name in given and given.get("on_error") != "skip":
            raise _error(entries, name, f"{name} needs on_error: 'skip'")
    if "timestamp_format" in given:
        given["timestamp_format"] = _checked_time_format(entries, given["timestamp_format"])
        if "timestamp_field" not in given:
            raise _error(entries, "timestamp_format", "timestamp_format needs timestamp_field")
    csv: dict[str, Any] = {
        name: given.pop(name) for name in ("delimiter", "quote", "null", "header", "infer", "types") if name in given
    }
    csv["quoted_text"] = given.pop("quoted", "any") == "text"
    skips = given.pop("on_error", "stop") == "skip"
    return LoadOptions(skips_errors=skips, csv=CsvOptions(**csv), fixed=fixed or {}, **given)


def write_options(path: str, entries: Entries) -> WriteOptions:
    """The options of COPY TO; raises GqlError with the place of what is wrong."""
    entries = [Given(name, value) for name, value in entries.items()] if isinstance(entries, Mapping) else list(entries)
    given = options.parse_options(entries, options.COPY_TO_OPTIONS, "COPY option")
    _check_format(path, entries, given, ("csv", "tsv"))
    quoted = given.pop("quoted", "any") == "text"
    return WriteOptions(quoted_text=quoted, **given)


def _check_format(path: str, entries: list[Entry | Given], given: dict[str, Any], formats: tuple[str, ...]) -> None:
    found = format_of(path, given.get("format")).name
    for name in _OF_CSV:
        if name in given and found not in formats:
            raise _error(entries, name, f"{name} is an option of CSV files, and this one is {found}")


def _checked_time_format(entries: list[Entry | Given], value: str) -> str:
    try:
        return time_format(value)
    except GqlError as error:
        raise _error(entries, "timestamp_format", f"COPY option timestamp_format: {error.message}") from error


def _error(entries: list[Entry | Given], name: str, message: str) -> GqlError:
    span = next((entry.span for entry in entries if entry.name.casefold() == name), None)
    return GqlError(message, span=span)
