"""The checker itself: a story in which all is well, and for each promise the story of an engine that breaks it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geode_client.broker import GroupStatistics
from histories.checker import CHECKS, LOSSES_TOGETHER, violations
from histories.facts import Facts, Letter, Stored
from histories.record import Record, Recorder, history
from histories.worker import JOBS, MAX_RETRIES, PAYMENTS, PERIL_RETRIES, PERILS, SALES, TICKS

Story = tuple[dict[str, list[Record]], Facts]
TOPICS = {"plain": JOBS, "odd": JOBS, "ordered": JOBS, "once": PAYMENTS, "whole": PAYMENTS, "hurried": SALES}
MORE = {"perilous": PERILS, "ticking": TICKS}
POISON = 2


def progress(name: str, topic: str, **counts: int) -> GroupStatistics:
    numbers: dict[str, Any] = dict.fromkeys(
        ("published", "acknowledged", "filtered", "dead_lettered", "expired", "removed"), 0
    )
    numbers |= dict.fromkeys(("ahead", "in_flight", "retrying"), 0) | counts
    about: dict[str, Any] = {"pattern": topic, "topic_name": topic, "filter": None, "order_by": "none", "paused": False}
    return GroupStatistics(name=name, **about, **numbers, oldest_pending_us=None)


def letter(group: str, **other: Any) -> Letter:
    headers = {
        "dead_letter_group": group,
        "dead_letter_partition": 0,
        "dead_letter_offset": POISON,
        "dead_letter_reason": "max_retries",
        "dead_letter_attempts": MAX_RETRIES,
        "dead_letter_topic": JOBS,
        "dead_letter_id": "p-2",
        "dead_letter_time": "now",
    }
    return Letter("p", POISON, headers | other)


def well() -> Story:
    """One publisher with four messages a topic, of which one is poison, and one member of every group."""
    log = {(0, n): Stored("p", n, "k", n == POISON) for n in range(4)}
    facts = Facts(logs={JOBS: log, PAYMENTS: dict(log), SALES: dict(log)})
    facts.letters = [letter("plain"), letter("ordered")]
    facts.done = [(0, n, "p", n) for n in range(4)]
    facts.out = [("p", n) for n in range(4)]
    facts.groups = {
        "plain": progress("plain", JOBS, published=4, acknowledged=3, dead_lettered=1),
        "odd": progress("odd", JOBS, published=4, acknowledged=2, filtered=2),
        "ordered": progress("ordered", JOBS, published=4, acknowledged=3, dead_lettered=1),
        "once": progress("once", PAYMENTS, published=4, acknowledged=4),
        "whole": progress("whole", PAYMENTS, published=4, acknowledged=4),
        "hurried": progress("hurried", SALES, published=4, acknowledged=4),
    }
    return {"p": published(), "m": [step for n in range(4) for step in handled(n)], "chaos": []}, facts


def published() -> list[Record]:
    steps = [("publishes", 1), ("published", 2)]
    return [
        {"what": w, "at": at, "topic": t, "numbers": [0, 1, 2, 3]} for t in (JOBS, PAYMENTS, SALES) for w, at in steps
    ]


def sees(group: str, n: int, at: int) -> Record:
    about = {
        "group": group,
        "topic": (TOPICS | MORE)[group],
        "place": [0, n],
        "attempt": 1,
        "by": "p",
        "n": n,
        "key": "k",
    }
    return {"what": "sees", "at": at, **about, "asked_us": 5, "expires_us": 10}


def says(what: str, group: str, n: int, at: int) -> Record:
    return {"what": what, "at": at, "group": group, "topic": (TOPICS | MORE)[group], "place": [0, n]}


def handled(n: int) -> list[Record]:
    at = 1000 * (n + 1)
    steps: list[Record] = []
    for group, topic in TOPICS.items():
        if group == "odd" and n % 2 == 0:
            continue
        steps.append(sees(group, n, at))
        if group == "whole":
            steps += [{"what": what, "at": at, "places": [[0, n]]} for what in ("commits", "committed")]
        elif topic != JOBS or n != POISON:
            steps += [says("settles", group, n, at + 1), says("settled", group, n, at + 2)]
    return steps


def test_where_all_is_well_nothing_is_found() -> None:
    assert violations(*well()) == {}


def _forget(group: str, n: int) -> Callable[[Story], None]:
    def forget(story: Story) -> None:
        story[0]["m"] = [r for r in story[0]["m"] if r.get("group") != group or r.get("place") != [0, n]]

    return forget


def _add(*records: Record) -> Callable[[Story], None]:
    return lambda story: story[0]["m"].extend(records)


def _other(**counts: int) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story[1].groups["plain"] = progress("plain", JOBS, **counts)

    return change


def _letters(*letters: Letter) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story[1].letters = list(letters)

    return change


_PERIL = letter("perilous", dead_letter_topic=PERILS)


def _perils(*letters: Letter, deaths: int = 1) -> Callable[[Story], None]:
    """The topic of perils with the same four messages, one of which kills so many processes."""

    def plant(story: Story) -> None:
        story[1].logs[PERILS] = {(0, n): Stored("p", n, "k", n == POISON) for n in range(4)}
        story[1].letters += [Letter("p", POISON, one.headers | {"dead_letter_topic": PERILS}) for one in letters]
        story[0]["m"] += [says("settles", "perilous", n, 9000) for n in range(4) if n != POISON]
        story[0]["m"] += [says("dies", "perilous", POISON, 9000)] * deaths

    return plant


def test_a_message_that_kills_and_becomes_a_dead_letter_harms_nobody() -> None:
    story = copy.deepcopy(well())
    _perils(_PERIL, deaths=PERIL_RETRIES + LOSSES_TOGETHER)(story)
    assert "innocents_lost" not in violations(*story)


PLANTED: list[tuple[str, str, Callable[[Story], Any]]] = [
    ("broken", "a process ends by an error", lambda s: s[0]["m"].append({"what": "broke", "at": 9, "error": "E"})),
    ("lost_publishes", "an acknowledged message is not in the log", lambda s: s[1].logs[JOBS].pop((0, 1))),
    (
        "lost_publishes",
        "a message is there twice",
        lambda s: s[1].logs[PAYMENTS].update({(0, 9): Stored("p", 1, "k", False)}),
    ),
    (
        "lost_publishes",
        "half of a batch that was never acknowledged",
        lambda s: s[0]["p"].append({"what": "publishes", "at": 3, "topic": JOBS, "numbers": [3, 4]}),
    ),
    (
        "lost_publishes",
        "a known id is stored again",
        lambda s: s[0]["p"].append({"what": "republished", "at": 3, "topic": PAYMENTS, "stored": 1}),
    ),
    ("skipped", "a group never settles a message", _forget("plain", 1)),
    ("skipped", "an ordered group never does", _forget("ordered", 3)),
    ("skipped", "a filter lets through what it should not", _add(sees("odd", 2, 9000))),
    ("settled_twice", "a stale lease settles", _add(says("settled", "plain", 1, 9000))),
    ("settled_twice", "what was settled becomes a dead letter too", _add(says("settled", "plain", POISON, 9000))),
    ("delivered_after_settled", "a settled message comes again", _add(sees("once", 1, 9000))),
    ("duplicate_effects", "an effect is there twice", lambda s: s[1].done.append((0, 1, "p", 1))),
    ("duplicate_effects", "an effect is missing", lambda s: s[1].done.pop()),
    ("duplicate_effects", "what was published with it is missing", lambda s: s[1].out.pop()),
    ("out_of_order", "an earlier message of the key comes again later", _add(sees("ordered", 0, 9000))),
    ("incomplete_dead_letters", "poison is in no dead letters", _letters(letter("plain"))),
    ("incomplete_dead_letters", "it is there twice", _letters(letter("plain"), letter("plain"), letter("ordered"))),
    ("incomplete_dead_letters", "without its headers", _letters(letter("plain", dead_letter_id=""), letter("ordered"))),
    ("incomplete_dead_letters", "too early", _letters(letter("plain", dead_letter_attempts=1), letter("ordered"))),
    ("incomplete_dead_letters", "another message", _letters(letter("plain", dead_letter_offset=1), letter("ordered"))),
    ("incomplete_dead_letters", "an attempt too many", _add(sees("plain", 1, 1000) | {"attempt": MAX_RETRIES + 1})),
    ("innocents_lost", "a neighbour of what kills is a dead letter", _perils(letter("perilous", dead_letter_offset=0))),
    ("innocents_lost", "what kills is no dead letter", _perils()),
    ("innocents_lost", "it has killed too many", _perils(_PERIL, deaths=PERIL_RETRIES + LOSSES_TOGETHER + 1)),
    ("delivered_twice", "at_most_once delivered twice", _add(sees("ticking", 1, 9000), sees("ticking", 1, 9001))),
    ("not_conserved", "a message is in no count", _other(published=4, acknowledged=2, dead_lettered=1)),
    ("not_conserved", "a message stays pending", _other(published=4, acknowledged=2, dead_lettered=1, in_flight=1)),
    ("not_conserved", "counts that balance and are wrong", _other(published=3, acknowledged=2, dead_lettered=1)),
    ("expired_deliveries", "it had expired", _add(sees("hurried", 1, 9000) | {"asked_us": 11})),
]


@pytest.mark.parametrize(("check", "what", "plant"), PLANTED, ids=[what for _, what, _ in PLANTED])
def test_each_broken_promise_is_found(check: str, what: str, plant: Callable[[Story], Any]) -> None:
    story = copy.deepcopy(well())
    plant(story)
    assert violations(*story).get(check), f"nobody noticed that {what}"


def test_every_check_has_a_planted_bug() -> None:
    assert {check for check, _, _ in PLANTED} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("group", ["once", "ordered"])
def test_only_who_stood_still_may_write_late(group: str) -> None:
    """The record of a hand-over is written a moment after it; a process that was stopped in between is believed."""
    stops = [{"what": "stops", "at": 8_500, "name": "m"}, {"what": "continues", "at": 8_900, "name": "m"}]
    for name, is_excused in (("m", True), ("x", False)):
        records, facts = copy.deepcopy(well())
        records["m"].append(sees(group, 0, 9000))
        records["chaos"] = [stop | {"name": name} for stop in stops]
        assert (violations(records, facts) == {}) is is_excused


def test_a_line_that_death_cut_off_was_not_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x.jsonl")
    recorder.write("publishes", topic="t")
    with (tmp_path / "x.jsonl").open("ab") as file:
        file.write(b'{"what": "publ')
    assert [record["what"] for record in history(tmp_path / "x.jsonl")] == ["publishes"]
