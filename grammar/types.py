"""Names of types: ours, and the usual ones of SQL that mean one of ours."""

from collections.abc import Mapping

TYPE_NAMES = ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "DECIMAL", "UUID", "BYTES", "ANY")
HELP: Mapping[str, tuple[str, tuple[str, str]]] = {
    "STRING": ("Text.", ("CAST(5 AS STRING)", "5")),
    "INT": ("A whole number of any size.", ("CAST('5' AS INT)", "5")),
    "FLOAT": ("A binary floating-point number of 64 bits.", ("CAST('1.5' AS FLOAT)", "1.5")),
    "BOOL": ("TRUE or FALSE.", ("CAST('true' AS BOOL)", "true")),
    "TIMESTAMP": (
        "An instant, to the microsecond.",
        ("CAST('2026-03-05T10:00:00+01:00' AS TIMESTAMP) IS NOT NULL", "true"),
    ),
    "DATE": ("A date of the calendar.", ("CAST('2026-03-05' AS DATE) = DATE '2026-03-05'", "true")),
    "DECIMAL": ("An exact decimal number.", ("CAST('0.1' AS DECIMAL) + CAST('0.2' AS DECIMAL) = 0.3", "true")),
    "UUID": ("A UUID.", ("TYPEOF(CAST('6ba7b810-9dad-11d1-80b4-00c04fd430c8' AS UUID))", "UUID")),
    "BYTES": ("Bytes, written as base64 text.", ("CAST('AAEC' AS BYTES)", "AAEC")),
    "ANY": ("Any JSON value. For columns; CAST does not take it.", ("JSON('[1, 2]')", "[1,2]")),
}
"""For each type: a line about it, and an expression with its value."""
USUAL_NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        ("VARCHAR", "TEXT", "CHAR", "NVARCHAR", "CLOB", "CHARACTER", "CHARACTER VARYING", "BPCHAR"), "STRING"
    ),
    **dict.fromkeys(
        (
            "BIGINT",
            "INTEGER",
            "SMALLINT",
            "TINYINT",
            "HUGEINT",
            "INT2",
            "INT4",
            "INT8",
            "INT16",
            "INT32",
            "INT64",
            "LONG",
        ),
        "INT",
    ),
    **dict.fromkeys(("DOUBLE", "DOUBLE PRECISION", "REAL", "FLOAT4", "FLOAT8", "FLOAT32", "FLOAT64"), "FLOAT"),
    "BOOLEAN": "BOOL",
    **dict.fromkeys(("NUMERIC", "DEC"), "DECIMAL"),
    **dict.fromkeys(("DATETIME", "TIMESTAMPTZ"), "TIMESTAMP"),
    **dict.fromkeys(("BLOB", "BYTEA", "BINARY", "VARBINARY"), "BYTES"),
    **dict.fromkeys(("JSON", "JSONB"), "ANY"),
    "GUID": "UUID",
}
# Types that take digits or a length in brackets; a length is not checked.
SIZED = frozenset(("STRING", "DECIMAL", "BYTES", "TIMESTAMP"))
DECIMAL_DIGITS_MAX = 300


def scalar_named(name: str) -> str | None:
    """Our name of a type; None where there is no such type."""
    upper = name.upper()
    return upper if upper in TYPE_NAMES else USUAL_NAMES.get(upper)
