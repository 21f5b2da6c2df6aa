"""What must have come of replays that ran, and were killed, at random moments."""

from geode_client import Client
from histories.worker import REPAIRS


async def outstanding(client: Client) -> int:
    """Dead letters that nobody has replayed yet."""
    found = await client.query(f"SELECT count(*) FROM DEAD LETTERS OF {REPAIRS} WHERE _replayed_at IS NULL")
    return int(found.rows[0][0])


async def wrong_replays(client: Client) -> list[str]:
    """Each broken message has one dead letter and one copy, which only the group that failed has handled."""
    broken = await _counts(client, f"FROM {REPAIRS} WHERE broken AND _replayed_from IS NULL")
    copies = await _counts(client, f"FROM {REPAIRS} WHERE _replayed_from IS NOT NULL")
    letters = await _counts(client, f"FROM DEAD LETTERS OF {REPAIRS}")
    wrong = [f"{place} was published {count} times" for place, count in broken.items() if count != 1]
    for what, found in (("copies", copies), ("dead letters", letters)):
        wrong += [f"{place} has {found.get(place, 0)} {what}" for place in broken if found.get(place) != 1]
        wrong += [f"{place} has {what} and was not broken" for place in found if place not in broken]
    groups = {one.name: one for one in (await client._broker.report(["groups"], REPAIRS)).groups}
    repaired, watching = groups["repaired"], groups["watching"]
    if (repaired.dead_lettered, repaired.filtered) != (len(broken), 0):
        wrong.append(f"repaired counts {repaired.dead_lettered} dead letters, {repaired.filtered} filtered")
    if (watching.dead_lettered, watching.filtered) != (0, len(copies)):
        wrong.append(f"watching counts {watching.dead_lettered} dead letters, {watching.filtered} filtered")
    return wrong


async def _counts(client: Client, source: str) -> dict[tuple[str, int], int]:
    found = await client.query(f"SELECT by, n, count(*) {source} GROUP BY by, n")
    return {(by, n): count for by, n, count in found.rows}
