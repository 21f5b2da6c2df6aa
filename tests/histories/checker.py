"""Proves from histories and the final store what the engine promises; each function names what is wrong, or nothing.

Nobody can see the moment at which a message is handed over, only the record that its reader writes next. A process that is
stopped exactly between the two writes late; `_stood_still` finds those, and only for them a check allows what it says.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from laws import difference

from histories.facts import Facts, Place, Stored
from histories.record import Record
from histories.worker import JOBS, MAX_RETRIES, PAYMENTS, PERIL_RETRIES, PERILS, SALES, TICKS

MANUAL = {"plain": JOBS, "ordered": JOBS, "hurried": SALES}
TOPICS = {**MANUAL, "odd": JOBS, "once": PAYMENTS, "whole": PAYMENTS, "perilous": PERILS, "ticking": TICKS}
# Losses before a message is alone: 4096, 512, 64, 8, 1.
LOSSES_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """A delivery: who saw it, when, and when the same process had written its record before."""

    name: str
    before: int
    at: int
    place: Place
    record: Record


class Evidence:
    """Histories by process name, sorted out by group."""

    def __init__(self, histories: dict[str, list[Record]], facts: Facts) -> None:
        self.histories = histories
        self.facts = facts
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self.settles: dict[str, set[Place]] = defaultdict(set)
        self.settled: dict[str, list[tuple[Place, int, str]]] = defaultdict(list)
        self.deaths: dict[Place, int] = defaultdict(int)
        self.stops = _stops(histories.get("chaos", []))
        for name, records in histories.items():
            before = 0
            for record in records:
                self._take(name, before, record)
                before = record["at"]

    def _take(self, name: str, before: int, record: Record) -> None:
        group, place = record.get("group", ""), tuple(record.get("place", ()))
        match record["what"]:
            case "sees":
                self.seen[group].append(Seen(name, before, record["at"], place, record))
            case "settles":
                self.settles[group].add(place)
            case "dies":
                self.deaths[place] += 1
            case "settled":
                self.settled[group].append((place, record["at"], name))
            case "commits":
                self.settles["whole"].update(tuple(place) for place in record["places"])

    def stood_still(self, seen: Seen) -> bool:
        """Whether the process was stopped between its record before and this one."""
        return any(start < seen.at and end > seen.before for start, end in self.stops.get(seen.name, ()))

    def log(self, group: str) -> dict[Place, Stored]:
        return self.facts.logs[TOPICS[group]]

    def letters(self, group: str) -> dict[Place, int]:
        """How many dead letters there are of each message for a group."""
        found: dict[Place, int] = defaultdict(int)
        for letter in self.facts.letters:
            if letter.headers["dead_letter_group"] == group:
                found[letter.headers["dead_letter_partition"], letter.headers["dead_letter_offset"]] += 1
        return found


def _stops(chaos: list[Record]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    open_since: dict[str, int] = {}
    for record in chaos:
        if record["what"] == "stops":
            open_since[record["name"]] = record["at"]
        elif record["name"] in open_since:
            found[record["name"]].append((open_since.pop(record["name"]) - 50_000_000, record["at"] + 50_000_000))
    return found


# ── publishing ──
def lost_publishes(evidence: Evidence) -> Iterator[str]:
    """A publish that returned is there; a batch is there whole or not at all; nothing is there that nobody published."""
    stored: dict[str, dict[tuple[str, int], int]] = {}
    for topic, log in evidence.facts.logs.items():
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for message in log.values():
            counts[message.by, message.n] += 1
        stored[topic] = counts
        yield from (f"{topic}: {who} is there {count} times" for who, count in counts.items() if count > 1)
    for name, records in evidence.histories.items():
        answered = {(r["topic"], r["numbers"][0]) for r in records if r["what"] == "published"}
        for record in records:
            if record["what"] == "publishes" and record["topic"] != SALES:
                found = [stored[record["topic"]].get((name, n), 0) for n in record["numbers"]]
                is_answered = (record["topic"], record["numbers"][0]) in answered
                if 0 in found and (is_answered or 1 in found):
                    yield f"{name} published {record['numbers']} to {record['topic']}, found {found}"
            if record["what"] == "republished" and record["stored"]:
                yield f"{name}: a known message id was stored again"


# ── groups ──
def skipped(evidence: Evidence) -> Iterator[str]:
    """Each message was settled by somebody, filtered out, or became a dead letter; nothing filtered out was delivered."""
    for group in ("plain", "odd", "ordered", "once", "whole"):
        letters = evidence.letters(group)
        for place, message in evidence.log(group).items():
            if group == "odd" and message.n % 2 == 0:
                continue
            if place not in evidence.settles[group] and not letters.get(place):
                yield f"{group}: {message} at {place} was never settled"
        if group == "odd":
            yield from (
                f"odd: {s.record} was to be filtered out" for s in evidence.seen[group] if s.record["n"] % 2 == 0
            )


def settled_twice(evidence: Evidence) -> Iterator[str]:
    """A message is settled once: an acknowledgement that returned was the only one, whoever held the message before."""
    for group in (*MANUAL, "once"):
        by: dict[Place, list[str]] = defaultdict(list)
        for place, _, name in evidence.settled[group]:
            by[place].append(name)
        yield from (f"{group}: {place} was settled by {names}" for place, names in by.items() if len(names) > 1)
        letters = evidence.letters(group)
        yield from (f"{group}: {place} was settled, and is a dead letter" for place in by if letters.get(place))


def delivered_after_settled(evidence: Evidence) -> Iterator[str]:
    """exactly_once: nothing is handed over once its acknowledgement has returned."""
    ends = {place: at for place, at, _ in evidence.settled["once"]}
    for seen in evidence.seen["once"]:
        end = ends.get(seen.place)
        if end is not None and seen.at > end and not evidence.stood_still(seen):
            yield f"once: {seen.name} saw {seen.place} {(seen.at - end) / 1e6:.1f} ms after it had been acknowledged"


def duplicate_effects(evidence: Evidence) -> Iterator[str]:
    """Effects, what is published with them and acknowledgements are one: each message has each exactly once."""
    log = evidence.log("whole")
    done: dict[Place, int] = defaultdict(int)
    for partition, offset, _, _ in evidence.facts.done:
        done[partition, offset] += 1
    out: dict[tuple[str, int], int] = defaultdict(int)
    for who in evidence.facts.out:
        out[who] += 1
    for place, message in log.items():
        if done[place] != 1 or out[message.by, message.n] != 1:
            yield f"whole: {message} at {place} had {done[place]} effects, {out[message.by, message.n]} messages"
    yield from (f"whole: an effect of {place}, where there is nothing" for place in done if place not in log)


def out_of_order(evidence: Evidence) -> Iterator[str]:
    """Of one key no message is handed over before the last delivery of every earlier one."""
    by_key: dict[tuple[int, str], list[Seen]] = defaultdict(list)
    for seen in evidence.seen["ordered"]:
        by_key[seen.place[0], seen.record["key"]].append(seen)
    for (_, key), deliveries in by_key.items():
        furthest = (-1, -1)
        for seen in sorted(deliveries, key=lambda one: one.at):
            if seen.place < furthest and not evidence.stood_still(seen):
                yield f"ordered: {seen.name} saw {seen.place} of {key} after {furthest}"
            furthest = max(furthest, seen.place)


def incomplete_dead_letters(evidence: Evidence) -> Iterator[str]:
    """Poison becomes a dead letter of each group exactly once, with its headers; nothing else does but by lost leases."""
    for letter in evidence.facts.letters:
        headers = letter.headers
        if headers["dead_letter_topic"] == PERILS:
            continue
        place = (headers["dead_letter_partition"], headers["dead_letter_offset"])
        message = evidence.facts.logs[JOBS].get(place)
        if message is None or (message.by, message.n) != (letter.by, letter.n):
            yield f"the dead letter {letter} is not the message at its place, {message}"
        if headers["dead_letter_reason"] != "max_retries" or headers["dead_letter_attempts"] < MAX_RETRIES:
            yield f"the dead letter {letter} had attempts left"
        if headers["dead_letter_topic"] != JOBS or not headers["dead_letter_id"] or not headers["dead_letter_time"]:
            yield f"the dead letter {letter} does not say where it comes from"
    for group in ("plain", "odd", "ordered"):
        letters = evidence.letters(group)
        poison = {place for place, m in evidence.log(group).items() if m.poison and (group != "odd" or m.n % 2)}
        yield from (
            f"{group}: {place} has {letters.get(place, 0)} dead letters" for place in poison if letters.get(place) != 1
        )
        yield from (f"{group}: {place} has {count} dead letters" for place, count in letters.items() if count > 1)
        if evidence.facts.groups[group].dead_lettered != sum(letters.values()):
            yield f"{group}: {evidence.facts.groups[group].dead_lettered} are counted, {sum(letters.values())} are there"
    yield from (
        f"{seen.record['group']}: attempt {seen.record['attempt']} of {seen.place}"
        for group in ("plain", "odd", "ordered")
        for seen in evidence.seen[group]
        if seen.record["attempt"] > MAX_RETRIES
    )


def innocents_lost(evidence: Evidence) -> Iterator[str]:
    """What kills its consumers becomes a dead letter after few deaths; none of its neighbours does, and all are handled."""
    log, letters = evidence.facts.logs.get(PERILS, {}), evidence.letters("perilous")
    for place, message in log.items():
        if message.poison and letters.get(place) != 1:
            yield f"perilous: {message} at {place} has {letters.get(place, 0)} dead letters"
        if not message.poison and letters.get(place):
            yield f"perilous: {message} at {place} is a dead letter, and has harmed nobody"
        if not message.poison and place not in evidence.settles["perilous"]:
            yield f"perilous: {message} at {place} was never settled"
    for place, deaths in evidence.deaths.items():
        if deaths > PERIL_RETRIES + LOSSES_TOGETHER:
            yield f"perilous: {place} has killed {deaths} processes"


def delivered_twice(evidence: Evidence) -> Iterator[str]:
    """at_most_once: nothing is handed over a second time, whoever leaves or dies."""
    by: dict[Place, list[str]] = defaultdict(list)
    for seen in evidence.seen["ticking"]:
        by[seen.place].append(seen.name)
    yield from (f"ticking: {place} was handed to {names}" for place, names in by.items() if len(names) > 1)


def not_conserved(evidence: Evidence) -> Iterator[str]:
    """The law of conservation, with nothing pending, and the counts that histories and log give."""
    for name, group in evidence.facts.groups.items():
        if difference(group):
            yield f"{name}: {difference(group)} messages are in no count: {group}"
        if group.pending:
            yield f"{name}: {group.pending} messages are pending although all have read to the end: {group}"
        if name not in ("hurried",) and name in TOPICS:
            log, letters = evidence.log(name), evidence.letters(name)
            filtered = sum(message.n % 2 == 0 for message in log.values()) if name == "odd" else 0
            counts = (group.published, group.filtered, group.acknowledged)
            right = (len(log), filtered, len(log) - filtered - sum(letters.values()))
            if counts != right:
                yield f"{name}: published, filtered, acknowledged are {counts}, not {right}"


def expired_deliveries(evidence: Evidence) -> Iterator[str]:
    """Nothing is handed over that had expired before its reader asked for it."""
    for seen in evidence.seen["hurried"]:
        if seen.record["asked_us"] >= seen.record["expires_us"]:
            yield f"hurried: {seen.name} was given {seen.place} after it had expired"


def broken(evidence: Evidence) -> Iterator[str]:
    """No process ended by an error."""
    for name, records in evidence.histories.items():
        yield from (f"{name}: {record['error']}" for record in records if record["what"] == "broke")


CHECKS = (
    broken,
    lost_publishes,
    skipped,
    settled_twice,
    delivered_after_settled,
    duplicate_effects,
    out_of_order,
    incomplete_dead_letters,
    innocents_lost,
    delivered_twice,
    not_conserved,
    expired_deliveries,
)


def violations(histories: dict[str, list[Record]], facts: Facts) -> dict[str, list[str]]:
    """What is wrong, by the name of the check; empty when everything is as promised."""
    evidence = Evidence(histories, facts)
    found = {check.__name__: list(check(evidence)) for check in CHECKS}
    return {name: wrongs for name, wrongs in found.items() if wrongs}
