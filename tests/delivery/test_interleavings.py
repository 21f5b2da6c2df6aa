"""The rules of the state machine in long seeded interleavings, weighted as a busy group sees them: many more reads than kills."""

import random
from typing import Any

import pytest
from delivery.ledger import ACKNOWLEDGED, DEAD, RETRY
from delivery.test_state_machine import GroupMachine
from delivery.world import SECOND_US
from settings import rounds

from geode_client.catalog import Delivery
from geode_client.delivery.lanes import KEY, PLAIN, PRIORITY

STEPS = 150
SEEDS = 120
SHARDS = 4

# What happens how often; see the rules of `GroupMachine`.
WEIGHTS: dict[str, int] = {
    "publish": 10, "create_topic": 1, "retain": 1, "expire": 1, "purge": 1,
    "wait": 6, "set_clock": 1, "tick": 6, "second_passed": 4,
    "seek": 1, "pause_or_resume": 1, "drop_group": 0,
    "open_process": 4, "join": 4, "leave": 2, "let_go": 2, "cancel": 3, "kill": 2,
    "hear": 10, "disturb_news": 3, "perform": 20, "answer": 20, "act_promptly": 6,
    "read": 25, "say": 15, "reserve": 10, "end_transaction": 8, "extend": 1, "work": 8,
}  # fmt: skip


class Interleaving:
    """One seed: a machine, and what chance makes of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.machine: Any = GroupMachine()
        self.machine.shows = False

    def run(self) -> None:
        chance, machine = self.chance, self.machine
        machine.begin(
            orders=[
                (chance.choice([PLAIN, PRIORITY, KEY]), chance.random() < 0.3) for _ in range(chance.randint(1, 3))
            ],
            partitions=chance.randint(1, 2),
            max_retries=chance.choice([20, 3, 1, 0]),
            dead_letter_expired=chance.random() < 0.5,
            delivery=chance.choice([Delivery.AT_LEAST_ONCE, Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE]),
        )
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        try:
            for name in chance.choices(names, weights, k=STEPS):
                if self._may(name):
                    getattr(machine, name)(**self._arguments(name))
                    machine.world.check()
            machine.drain()
        except BaseException as error:
            error.add_note("\n".join(machine.world.lines[-150:]))
            raise
        finally:
            machine.world.close()

    def _may(self, name: str) -> bool:
        world = self.machine.world
        match name:
            case "create_topic":
                return len(world.topics) == 1
            case "retain":
                return bool(world.batches)
            case "expire":
                return bool(world.expired_batches())
            case "open_process":
                return len(world.processes) < 4
            case "join" | "kill":
                return bool(world.processes)
            case "drop_group":
                return len(world.groups) > 1
        return True

    def _arguments(self, name: str) -> dict[str, Any]:
        chance = self.chance
        which = {"which": chance.randrange(12)}
        member = {
            "prefetch": chance.choice([1, 3, 100]),
            "auto_ack": chance.random() < 0.5,
            "group": chance.randrange(3),
        }
        match name:
            case "publish":
                count = chance.choice([1, 1, 3, 12])
                ttl = 5 * SECOND_US
                return {
                    "topic": chance.randrange(2),
                    "partition": chance.randrange(2),
                    "messages": [
                        (chance.choice(["a", "a", "b", None]), ttl if chance.random() < 0.1 else None)
                        for _ in range(count)
                    ],
                    "priority": chance.choice([5, 2, 9]),
                    "poison": chance.randrange(count) if chance.random() < 0.15 else None,
                }
            case "retain":
                return {"count": chance.randint(1, 2)}
            case "wait":
                return {"seconds": chance.choice([0.02, 0.02, 1, 1, 4, 11, 40])}
            case "set_clock":
                return {"seconds": chance.choice([3600, -3600, 4, -4])}
            case "seek":
                return {**which, "start": chance.choice([0, None, 3])}
            case "open_process":
                return member
            case "join":
                return {**which, **member}
            case "leave":
                return {**which, "fails": chance.random() < 0.4}
            case "disturb_news":
                return {**which, "how": chance.choice(["repeat", "swap", "lose"])}
            case "answer":
                return {**which, "answer": chance.randrange(3)}
            case "read":
                return {**which, "count": chance.choice([1, 2, 5, 100])}
            case "say":
                word = chance.choice([ACKNOWLEDGED, ACKNOWLEDGED, RETRY, DEAD])
                return {
                    **which,
                    "message": chance.randrange(6),
                    "word": word,
                    "delay_us": chance.choice([None, 0, SECOND_US]),
                }
            case "reserve":
                return {**which, "message": chance.randrange(6)}
            case "end_transaction":
                return {**which, "commits": chance.random() < 0.6}
            case "extend":
                return {**which, "message": chance.randrange(6), "seconds": chance.choice([1, 30])}
            case "work":
                return {**which, "words": chance.choices([ACKNOWLEDGED, RETRY], [4, 1], k=chance.randrange(8))}
            case "create_topic" | "expire" | "purge":
                return {}
        return which


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_interleaving_keeps_the_law(shard: int) -> None:
    for seed in range(shard, rounds(SEEDS), SHARDS):
        try:
            Interleaving(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
