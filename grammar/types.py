"""Names of types: ours, and the usual ones of SQL that mean one of ours."""

from collections.abc import Mapping

TYPE_NAMES = ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "DECIMAL", "UUID", "BYTES", "ANY")
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
