"""Groups as a stateful model: several processes on one store in memory, in every order of events that chance finds.

The rules are what a program, a process or time may do; the invariants are those of the design, held after every step (see
`World.check` and the asserts of `Worker` and `Reader`). When everybody behaves in the end, nothing may be left.
A failure shows the rules that lead to it, and what happened in each of them, line by line.
"""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from delivery import ledger
from delivery.ledger import RETRY, Ledger
from delivery.reader import Reader
from delivery.worker import Worker
from delivery.world import SECOND_US, World
from hypothesis import Phase, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from settings import long_settings

from geode_client.catalog import Delivery
from geode_client.delivery.lanes import KEY, PLAIN, PRIORITY
from geode_client.errors import GroupNotFound
from geode_client.options import TopicOptions

NUMBERS = st.integers(0, 5)
KEYS = st.sampled_from(["a", "a", "b", None])
LINES_SHOWN = 60
DRAINED_AT_MOST = 1000


class GroupMachine(RuleBasedStateMachine):
    """`which` numbers choose among what is there, modulo how much there is."""

    world: World

    @initialize(
        orders=st.lists(st.tuples(st.sampled_from([PLAIN, PRIORITY, KEY]), st.booleans()), min_size=1, max_size=2),
        partitions=st.integers(1, 2),
        max_retries=st.sampled_from([20, 3, 1, 0]),
        dead_letter_expired=st.booleans(),
        delivery=st.sampled_from([Delivery.AT_LEAST_ONCE, Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE]),
    )
    def begin(
        self,
        orders: list[tuple[str, bool]],
        partitions: int,
        max_retries: int,
        dead_letter_expired: bool,
        delivery: Delivery,
    ) -> None:
        options = TopicOptions(
            partitions=partitions,
            max_retries=max_retries,
            dead_letter_expired=dead_letter_expired,
            ack_timeout_us=10 * SECOND_US,
            retry_backoff_us=SECOND_US,
            retry_backoff_max_us=4 * SECOND_US,
        )
        self.world = World(options, delivery)
        self.world.create_topic("t/a")
        for number, (order, has_condition) in enumerate(orders):
            self.world.make_group(Ledger(f"g{number}", "t/*", order, has_condition), 0)
            self.open_worker(number, 3, True)
        self.shown = True

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.drain()
        except BaseException:
            self.show()
            raise
        finally:
            self.world.close()

    def show(self) -> None:
        note("\n".join(["what happened:", *self.world.lines[-LINES_SHOWN:]]))

    def _worker(self, which: int) -> Worker:
        return self.world.workers[which % len(self.world.workers)]

    def _group(self, which: int) -> Ledger:
        return self.world.groups[which % len(self.world.groups)]

    def _reader(self, which: int) -> Reader | None:
        readers = [reader for worker in self.world.workers for reader in worker.readers]
        return readers[which % len(readers)] if readers else None

    def _told(self, step: Callable[[], Any]) -> Any:
        """Run a step of a worker; one whose group was dropped ends."""
        try:
            return step()
        except AssertionError:
            self.show()
            raise

    # ── the log ──
    @rule(
        topic=NUMBERS,
        partition=st.integers(0, 1),
        messages=st.lists(st.tuples(KEYS, st.sampled_from([None, None, None, 5 * SECOND_US])), min_size=1, max_size=6),
        priority=st.sampled_from([5, 2, 9]),
    )
    def publish(self, topic: int, partition: int, messages: list[tuple[str | None, int | None]], priority: int) -> None:
        names = sorted(self.world.topics)
        self.world.publish(names[topic % len(names)], partition, messages, priority)

    @precondition(lambda self: len(self.world.topics) == 1)
    @rule()
    def create_topic(self) -> None:
        self.world.create_topic("t/b")

    @precondition(lambda self: self.world.batches)
    @rule(count=st.integers(1, 2))
    def retain(self, count: int) -> None:
        self.world.remove(sorted(self.world.batches)[:count], ledger.REMOVED)

    @precondition(lambda self: self.world.expired_batches())
    @rule()
    def expire(self) -> None:
        self.world.remove(self.world.expired_batches(), ledger.EXPIRED)

    @precondition(lambda self: self.world.messages)
    @rule()
    def purge(self) -> None:
        self.world.purge("t/a")

    # ── time ──
    @rule(seconds=st.sampled_from([1, 4, 11, 40]))
    def wait(self, seconds: int) -> None:
        self.world.wall_us += seconds * SECOND_US
        self.world.boot_us += seconds * SECOND_US
        self.world.tell(f"{seconds} seconds pass")

    @rule(seconds=st.sampled_from([3600, -3600, 4, -4]))
    def set_clock(self, seconds: int) -> None:
        self.world.latest_us = max(self.world.latest_us, self.world.wall_us)
        self.world.wall_us += seconds * SECOND_US
        self.world.tell(f"the wall clock is set by {seconds} seconds")

    # ── groups ──
    @precondition(lambda self: self.world.groups)
    @rule(which=NUMBERS, start=st.sampled_from([0, None, 3]))
    def seek(self, which: int, start: int | None) -> None:
        self.world.seek(self._group(which), "t/a", start)

    @precondition(lambda self: self.world.groups)
    @rule(which=NUMBERS)
    def pause_or_resume(self, which: int) -> None:
        group = self._group(which)
        self.world.pause(group, paused=not group.paused)

    @precondition(lambda self: len(self.world.groups) > 1)
    @rule(which=NUMBERS)
    def drop_group(self, which: int) -> None:
        self.world.drop(self._group(which))

    # ── processes and members ──
    @precondition(lambda self: self.world.groups and len(self.world.workers) < 5)
    @rule(group=NUMBERS, prefetch=st.sampled_from([1, 3, 100]), auto_ack=st.booleans())
    def open_worker(self, group: int, prefetch: int, auto_ack: bool) -> None:
        Worker.start(self.world, self._group(group)).join(prefetch=prefetch, auto_ack=auto_ack)

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS, prefetch=st.sampled_from([1, 3, 100]), auto_ack=st.booleans())
    def join(self, which: int, prefetch: int, auto_ack: bool) -> None:
        self._worker(which).join(prefetch=prefetch, auto_ack=auto_ack)

    @rule(which=NUMBERS)
    def leave(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._told(lambda: reader.worker.leave(reader))

    @precondition(lambda self: len(self.world.workers) > 1)
    @rule(which=NUMBERS)
    def kill(self, which: int) -> None:
        self.world.kill(self._worker(which))

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS, at_most=st.sampled_from([1000, 1, 3]), turn=NUMBERS)
    def claim(self, which: int, at_most: int, turn: int) -> None:
        worker = self._worker(which)
        try:
            self._told(lambda: worker.claim(at_most, turn))
        except GroupNotFound:
            assert worker.group not in self.world.groups
            self.world.kill(worker)

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS)
    def renew(self, which: int) -> None:
        self._told(self._worker(which).renew)

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS)
    def give_up_surplus(self, which: int) -> None:
        self._told(self._worker(which).surplus)

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS)
    def flush(self, which: int) -> None:
        self._told(self._worker(which).flush)

    @precondition(lambda self: self.world.workers)
    @rule(which=NUMBERS)
    def settle_late(self, which: int) -> None:
        """A settlement is made and does not reach the store before something else happens."""
        self._told(self._worker(which).write_down)

    # ── readers ──
    @rule(which=NUMBERS)
    def take(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._told(reader.take)

    @rule(which=NUMBERS, count=st.sampled_from([1, 2, 100]))
    def read(self, which: int, count: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._told(lambda: [None for _ in range(count) if not reader.read()])

    @rule(which=NUMBERS)
    def take_and_read(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None and self._told(reader.take):
            self._told(reader.read)

    @rule(which=NUMBERS)
    def steal(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None and self._told(lambda: reader.worker.core.steal(reader.member)):
            self._told(reader.take)

    @rule(
        which=NUMBERS,
        message=NUMBERS,
        word=st.sampled_from([ledger.ACKNOWLEDGED, RETRY, ledger.DEAD]),
        delay_us=st.sampled_from([None, 0, 30 * SECOND_US]),
    )
    def say(self, which: int, message: int, word: str, delay_us: int | None) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._told(lambda: reader.say(message, word, delay_us=delay_us))

    @precondition(lambda self: self.world.workers)
    @rule(
        which=NUMBERS,
        at_most=st.sampled_from([1000, 2]),
        words=st.lists(st.sampled_from([ledger.ACKNOWLEDGED, RETRY]), max_size=4),
    )
    def work(self, which: int, at_most: int, words: list[str]) -> None:
        """What a consumer mostly does: claim, take, read and settle one after the other."""
        self.claim(which, at_most, which)
        readers = self._worker(which).readers if self.world.workers else []
        if not readers:
            return
        self._told(readers[0].take)
        for word in words:
            self._told(readers[0].read)
            self._told(lambda word=word: readers[0].say(len(readers[0].open) - 1, word, delay_us=0))  # type: ignore[misc]

    # ── what must be true ──
    @invariant()
    def law_holds(self) -> None:
        if hasattr(self, "shown"):
            self._told(self.world.check)

    def drain(self) -> None:
        """Everybody behaves from here on: whatever is pending is delivered, once everything is over."""
        world = self.world
        world.wall_us = max(world.wall_us, world.latest_us)
        for group in list(world.groups):
            if group.paused:
                world.pause(group, paused=False)
            if not any(worker.group is group and worker.readers for worker in world.workers):
                Worker.start(world, group).join(prefetch=10, auto_ack=True)
        world.workers = [worker for worker in world.workers if worker.group in world.groups]
        for _ in range(60):
            if not any(group.pending() for group in world.groups) and not any(w.unseen for w in world.workers):
                break
            world.wall_us += 41 * SECOND_US
            world.boot_us += 4 * SECOND_US
            for worker in list(world.workers):
                if worker.readers:
                    self._work_off(worker)
            world.check()
        for group in world.groups:
            left = [f"{world.messages[place]} is {group.state[place]}" for place in group.pending()]
            assert not left, f"{group.name} never came to {left}"
        for worker in world.workers:
            unseen = [world.messages[place] for place in worker.unseen]
            alive = [str(message) for message in unseen if message.expires_us is None]
            assert not alive, f"{worker.name} acknowledged and never handed over {alive}"

    def _work_off(self, worker: Worker) -> None:
        worker.renew()
        for _ in range(DRAINED_AT_MOST):
            if not worker.claim(1000):
                break
            self._hand_over_all(worker)
        self._hand_over_all(worker)
        worker.flush()

    def _hand_over_all(self, worker: Worker) -> None:
        for reader in list(worker.readers):
            while reader.take() or any(one.rest for one in reader.slices):
                while reader.read():
                    if not reader.member.auto_ack:
                        reader.say(len(reader.open) - 1, ledger.ACKNOWLEDGED)
            for _ in list(reader.open):
                reader.say(0, ledger.ACKNOWLEDGED)


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(
    long_settings(150), stateful_step_count=40, phases=[Phase.explicit, Phase.generate, Phase.shrink]
)
