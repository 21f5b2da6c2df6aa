"""The files of the package vega_datasets: all load, with the column types that DuckDB finds, and come back as they were.

The package is not a dependency of the tests (it wants pandas); where it is not installed this is skipped. What differs from
DuckDB, and why:

| file, column | DuckDB | here |
| --- | --- | --- |
| seattle-temps.csv, sf-temps.csv: date | TIMESTAMP | STRING: `2010/01/01 00:00` is not ISO 8601, and JSON keeps it as text |
| seattle-weather.csv: date | DATE | STRING: `2012/01/01` is not ISO 8601 |
| airports.csv: all | the same | the same, `0E0` being a code |
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client

_DIFFERENT = {
    ("seattle-temps.csv", "date"): ("TIMESTAMP", "STRING"),
    ("sf-temps.csv", "date"): ("TIMESTAMP", "STRING"),
    ("seattle-weather.csv", "date"): ("DATE", "STRING"),
}
_TYPES = {
    "VARCHAR": "STRING",
    "BIGINT": "INT",
    "DOUBLE": "FLOAT",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
}


def _files(ending: str) -> list[Path]:
    found = importlib.util.find_spec("vega_datasets")
    if found is None or found.origin is None:
        return []
    return sorted(Path(found.origin).parent.rglob(f"*{ending}"))


def _without_null(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.skipif(not _files(".csv"), reason="the package vega_datasets is not installed")
@pytest.mark.parametrize("path", _files(".csv"), ids=lambda path: path.name)
async def test_columns_have_the_types_that_duckdb_finds(path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    described = duckdb.sql(f"DESCRIBE SELECT * FROM read_csv('{path}')").fetchall()
    async with Client(":memory:") as client:
        done = await client.execute(f"COPY t FROM '{path}'")
    said = done.notices[0].split("columns: ")[1].split(", ")
    for found, (name, kind, *_) in zip(said, described, strict=True):
        expected = _DIFFERENT.get((path.name, name), (kind, _TYPES.get(kind)))
        assert expected[0] == kind
        assert found == f"{name} {expected[1]}"


@pytest.mark.skipif(not _files(".csv"), reason="the package vega_datasets is not installed")
@pytest.mark.parametrize("path", [*_files(".csv"), *_files(".json")], ids=lambda path: path.name)
async def test_out_and_back_is_equal(path: Path, tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        await client.execute(f"COPY t FROM '{path}'")
        wanted = _without_null((await client.query("SELECT * FROM t")).dicts())
        assert wanted
        for ending, options in (
            ("jsonl", ""),
            ("json.gz", ""),
            ("csv.zst", " WITH OPTIONS (quoted: 'text')"),
            ("parquet", ""),
        ):
            await client.execute(f"COPY t TO '{tmp_path}/o.{ending}'{options}")
            await client.execute("DROP TOPIC IF EXISTS u")
            await client.execute(f"COPY u FROM '{tmp_path}/o.{ending}'{options}")
            assert _without_null((await client.query("SELECT * FROM u")).dicts()) == wanted
