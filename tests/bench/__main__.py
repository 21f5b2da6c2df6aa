"""`python -m tests.bench`: measure, print a table with the peers of the same run and the ratios.

    python -m tests.bench                    everything
    python -m tests.bench publish fan-out    rows of these groups
    python -m tests.bench --profile publish  the same under the profiler, without peers

Figures of one machine at one moment: a ratio counts more than a number. Never part of the tests.
"""

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import (
    conditions,
    delivery,
    fanout,
    memory,
    publishing,
    queries,
    requesting,
    scanning,
    starting,
    subscribers,
    transactions,
)
from bench.table import Row, Settings, shown

GROUPS = {
    "publish": publishing.rows,
    "fan-out": fanout.rows,
    "groups": delivery.rows,
    "conditions": conditions.rows,
    "scan": scanning.rows,
    "subscribers": subscribers.rows,
    "transactions": transactions.rows,
    "requests": requesting.rows,
    "queries": queries.rows,
    "start": starting.rows,
    "memory": memory.rows,
}


def main() -> None:
    """Run the groups that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Geode and its peers.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--profile", action="store_true", help="show where the time goes; no peers")
    parser.add_argument("--directory", type=Path, default=Path(), help="where stores are made (a real disk)")
    given = parser.parse_args()
    unknown = set(given.groups) - GROUPS.keys()
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}: there are {', '.join(GROUPS)}")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.directory) as folder:
        settings = Settings(Path(folder), peers=not given.profile)
        for name in given.groups or GROUPS:
            profile = cProfile.Profile() if given.profile else None
            found: list[Row] = []
            if profile is not None:
                profile.enable()
            asyncio.run(GROUPS[name](settings, found))
            if profile is not None:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(30)
            print(shown(name, found), flush=True)


if __name__ == "__main__":
    main()
