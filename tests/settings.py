"""How long the rounds of tests are: short under `make test`, long under `make soak` (GEODE_SOAK=1)."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

SOAK = os.environ.get("GEODE_SOAK") == "1"
SOAK_FACTOR = 50


def rounds(short: int, soak: int | None = None) -> int:
    """How many rounds: `short` in the suite, `soak` (else 50 times as many) in a soak."""
    return (soak or short * SOAK_FACTOR) if SOAK else short


def long_rounds(short: int) -> Callable[[Any], Any]:
    """Hypothesis settings for a test whose examples are worth repeating in a soak."""
    return long_settings(short)


def long_settings(short: int) -> settings:
    """The same as a value, for a state machine."""
    return settings(
        max_examples=rounds(short),
        deadline=None,
        derandomize=not SOAK,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
