"""Groups as a stateful model: the shipped schedulers of several processes on one store in memory, in every order of events.

The rules are what a program, a process, the store or time may do: an action of a scheduler is performed, answered or lost at
a moment of the test's choosing. The invariants are those of the design, held after every step (see `World.check`, `Judge` and
`Reader`). When everybody behaves in the end, nothing may be left.
A failure shows the rules that lead to it, and what happened in each of them, line by line.
"""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from delivery.ledger import ACKNOWLEDGED, AHEAD, CLAIMED, DEAD, EXPIRED, REMOVED, RETRY, Ledger
from delivery.process import Process, Rim
from delivery.reader import Reader
from delivery.world import SECOND_US, World
from hypothesis import Phase, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from settings import long_settings

from geode_client.catalog import Delivery
from geode_client.delivery.lanes import KEY, PLAIN, PRIORITY
from geode_client.options import TopicOptions

NUMBERS = st.integers(0, 5)
KEYS = st.sampled_from(["a", "a", "b", None])
LINES_SHOWN = 90
ROUNDS_MAX = 400
READ_AT_MOST = 300


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
        self.open_process(0, 3, True)
        self.shown = True

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.failed:
                self.drain()
        except BaseException:
            self.show()
            raise
        finally:
            self.world.close()

    failed = False
    shows = True

    def show(self) -> None:
        note("\n".join(["what happened:", *self.world.lines[-LINES_SHOWN:]]))

    def _do(self, step: Callable[[], Any]) -> Any:
        """Run a step; one that fails is shown."""
        try:
            return step()
        except BaseException:
            if not self.failed and self.shows:
                self.show()
            self.failed = True
            raise

    def _group(self, which: int) -> Ledger:
        return self.world.groups[which % len(self.world.groups)]

    def _process(self, which: int) -> Process | None:
        found = self.world.processes
        return found[which % len(found)] if found else None

    def _rim(self, which: int, wanted: Callable[[Rim], Any] = lambda _: True) -> Rim | None:
        found = [rim for process in self.world.processes for rim in process.rims if wanted(rim)]
        return found[which % len(found)] if found else None

    def _reader(self, which: int) -> Reader | None:
        found = [reader for process in self.world.processes for reader in process.readers]
        return found[which % len(found)] if found else None

    # ── the log ──
    @rule(
        topic=NUMBERS,
        partition=st.integers(0, 1),
        messages=st.lists(st.tuples(KEYS, st.sampled_from([None, None, None, 5 * SECOND_US])), min_size=1, max_size=6),
        priority=st.sampled_from([5, 2, 9]),
        poison=st.sampled_from([None, None, None, None, 0, 2]),
    )
    def publish(
        self,
        topic: int,
        partition: int,
        messages: list[tuple[str | None, int | None]],
        priority: int,
        poison: int | None,
    ) -> None:
        names = sorted(self.world.topics)
        self.world.publish(names[topic % len(names)], partition, messages, priority, poison=poison)

    @precondition(lambda self: len(self.world.topics) == 1)
    @rule()
    def create_topic(self) -> None:
        self.world.create_topic("t/b")

    @precondition(lambda self: self.world.batches)
    @rule(count=st.integers(1, 2))
    def retain(self, count: int) -> None:
        self._do(lambda: self.world.remove(sorted(self.world.batches)[:count], REMOVED))

    @precondition(lambda self: self.world.expired_batches())
    @rule()
    def expire(self) -> None:
        self._do(lambda: self.world.remove(self.world.expired_batches(), EXPIRED))

    @precondition(lambda self: self.world.messages)
    @rule()
    def purge(self) -> None:
        self._do(lambda: self.world.purge("t/a"))

    # ── time ──
    @rule(seconds=st.sampled_from([0.02, 1, 4, 11, 40]))
    def wait(self, seconds: float) -> None:
        self.world.wall_us += int(seconds * SECOND_US)
        self.world.boot_us += int(seconds * SECOND_US)
        self.world.tell(f"{seconds} seconds pass")

    @rule(seconds=st.sampled_from([3600, -3600, 4, -4]))
    def set_clock(self, seconds: int) -> None:
        self.world.latest_us = max(self.world.latest_us, self.world.wall_us)
        self.world.wall_us += seconds * SECOND_US
        self.world.tell(f"the wall clock is set by {seconds} seconds")

    @rule(which=NUMBERS)
    def tick(self, which: int) -> None:
        rim = self._rim(which)
        if rim is not None:
            self._do(rim.tick)

    @rule(which=NUMBERS)
    def second_passed(self, which: int) -> None:
        rim = self._rim(which)
        if rim is not None:
            self._do(rim.second_passed)

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
    @precondition(lambda self: self.world.groups and len(self.world.processes) < 4)
    @rule(group=NUMBERS, prefetch=st.sampled_from([1, 3, 100]), auto_ack=st.booleans())
    def open_process(self, group: int, prefetch: int, auto_ack: bool) -> None:
        process = Process.start(self.world)
        self._do(lambda: process.rim(self._group(group)).join(prefetch=prefetch, auto_ack=auto_ack))

    @precondition(lambda self: self.world.groups and self.world.processes)
    @rule(which=NUMBERS, group=NUMBERS, prefetch=st.sampled_from([1, 3, 100]), auto_ack=st.booleans())
    def join(self, which: int, group: int, prefetch: int, auto_ack: bool) -> None:
        process = self._process(which)
        assert process is not None
        self._do(lambda: process.rim(self._group(group)).join(prefetch=prefetch, auto_ack=auto_ack))

    @rule(which=NUMBERS, fails=st.booleans())
    def leave(self, which: int, fails: bool) -> None:
        reader = self._reader(which)
        if reader is None:
            return
        if fails:
            self._do(reader.fail)
        self._do(lambda: reader.rim.leave(reader))

    @rule(which=NUMBERS)
    def let_go(self, which: int) -> None:
        rim = self._rim(which, lambda rim: rim.may_let_go)
        if rim is not None:
            self._do(rim.let_go)

    @rule(which=NUMBERS)
    def cancel(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(reader.stop_waiting)

    @precondition(lambda self: self.world.processes)
    @rule(which=NUMBERS)
    def kill(self, which: int) -> None:
        process = self._process(which)
        assert process is not None
        self.world.kill(process)

    # ── between schedulers and store ──
    @rule(which=NUMBERS)
    def hear(self, which: int) -> None:
        process = self._process(which)
        if process is not None:
            self._do(process.hear)

    @rule(which=NUMBERS, how=st.sampled_from(["repeat", "swap", "lose"]))
    def disturb_news(self, which: int, how: str) -> None:
        """News are repeated, come in another order, or are lost: then the look once a second must do."""
        process = self._process(which)
        if process is None or not process.news:
            return
        if how == "repeat":
            process.news.append(process.news[0])
        elif how == "swap":
            process.news.rotate(1)
        elif None in process.news:
            process.news.remove(None)
            self.world.has_lost_news = True

    @rule(which=NUMBERS)
    def perform(self, which: int) -> None:
        rim = self._rim(which, lambda rim: rim.queue)
        if rim is not None:
            self._do(rim.perform)

    @rule(which=NUMBERS, answer=NUMBERS)
    def answer(self, which: int, answer: int) -> None:
        rim = self._rim(which, lambda rim: rim.answers)
        if rim is not None:
            self._do(lambda: rim.answer(answer))

    @rule(which=NUMBERS)
    def act_promptly(self, which: int) -> None:
        process = self._process(which)
        if process is not None:
            self._do(process.promptly)

    # ── readers ──
    @rule(which=NUMBERS, count=st.sampled_from([1, 2, 100]))
    def read(self, which: int, count: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: self._read(reader, count))

    def _read(self, reader: Reader, count: int) -> int:
        for done in range(count):
            if not reader.rim.process.is_alive or not reader.read():
                return done
        return count

    @rule(
        which=NUMBERS,
        message=NUMBERS,
        word=st.sampled_from([ACKNOWLEDGED, RETRY, DEAD]),
        delay_us=st.sampled_from([None, 0, 30 * SECOND_US]),
    )
    def say(self, which: int, message: int, word: str, delay_us: int | None) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: reader.say(message, word, delay_us=delay_us))

    @rule(which=NUMBERS, message=NUMBERS)
    def reserve(self, which: int, message: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: reader.reserve(message))

    @rule(which=NUMBERS, commits=st.booleans())
    def end_transaction(self, which: int, commits: bool) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: reader.end_transaction(commits=commits))

    @rule(which=NUMBERS, message=NUMBERS, seconds=st.sampled_from([1, 30]))
    def extend(self, which: int, message: int, seconds: int) -> None:
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: reader.extend(message, seconds))

    @rule(which=NUMBERS, words=st.lists(st.sampled_from([ACKNOWLEDGED, RETRY]), max_size=4))
    def work(self, which: int, words: list[str]) -> None:
        """What a consumer mostly does: read and settle one after the other, while all is answered at once."""
        reader = self._reader(which)
        if reader is not None:
            self._do(lambda: self._work(reader, words))

    def _work(self, reader: Reader, words: list[str]) -> None:
        process = reader.rim.process
        for word in words:
            if not process.is_alive:
                return
            process.promptly()
            if process.is_alive and reader.read() and process.is_alive:
                reader.say(len(reader.open) - 1, word, delay_us=0)

    # ── what must be true ──
    @invariant()
    def law_holds(self) -> None:
        if hasattr(self, "shown"):
            self._do(self.world.check)

    def drain(self) -> None:
        """Everybody behaves from here on: whatever is pending is delivered, once everything is over."""
        world = self.world
        world.wall_us = max(world.wall_us, world.latest_us)
        for group in list(world.groups):
            if group.paused:
                world.pause(group, paused=False)
        for reader in [reader for process in world.processes for reader in process.readers]:
            reader.end_transaction(commits=False)
        self._nobody_waits_in_vain()
        for _ in range(ROUNDS_MAX):
            self._everybody_has_a_reader()
            for process in list(world.processes):
                self._work_off(process)
            world.check()
            if not any(world.places(group) for group in world.groups):
                break
            world.wall_us += 3 * SECOND_US
            world.boot_us += SECOND_US
        for group in world.groups:
            left = [f"{world.messages[place]} is {where}" for place, where in world.places(group).items()]
            assert not left, f"{group.name} never came to {left}"
        for process in world.processes:
            for rim in process.rims:
                assert not rim.tickets, f"{rim.group.name}: {rim.tickets} were never served"
        if world.delivery is Delivery.AT_MOST_ONCE:
            for group in world.groups:
                unseen = self._unseen(group)
                assert not unseen, f"{group.name} acknowledged and never handed over {unseen}"

    def _nobody_waits_in_vain(self) -> None:
        """Without time passing: no member with room waits while there is something that it could have."""
        world = self.world
        moved = True
        while moved:
            moved = False
            for process in list(world.processes):
                moved |= self._work_off(process, looks=False)
        if world.has_lost_news:
            return
        for group in world.groups:
            places = world.places(group)
            if any(where.losses or where.owner is not None for where in places.values()) or group.order_by == KEY:
                continue  # suspects come one at a time, and what is lost waits for the look once a second
            waiting = [
                reader.name
                for process in world.processes
                for reader in process.readers
                if reader.rim.group is group and process.quarantine.is_open
            ]
            left = [str(world.messages[p]) for p, where in places.items() if where.state in (AHEAD, CLAIMED)]
            assert not (waiting and left), f"{waiting} wait, and {left} are there"

    def _unseen(self, group: Ledger) -> list[str]:
        """Messages that at_most_once counts as acknowledged although nobody had them and no process died with them."""
        found = []
        for here, origin in group.origins.items():
            seen = sum(1 for p in self.world.messages if p[:2] == here and p[2] >= origin and group.handed[p])
            lost = sum(1 for p in group.lost_unseen if p[:2] == here and not group.handed[p])
            if here not in group.moved and group.counts[(*here, ACKNOWLEDGED)] > seen + lost:
                found.append(f"{here}: {group.counts[(*here, ACKNOWLEDGED)]} of {seen} and {lost}")
        return found

    def _everybody_has_a_reader(self) -> None:
        for group in self.world.groups:
            if not any(r.rim.group is group for process in self.world.processes for r in process.readers):
                Process.start(self.world).rim(group).join(prefetch=10, auto_ack=True)

    def _work_off(self, process: Process, *, looks: bool = True) -> bool:
        """Let a process do what it can; whether that was anything. `looks`: a second passes."""
        anything = process.promptly()
        for rim in list(process.rims) if looks else ():
            if process.is_alive and rim.group in self.world.groups and not rim.is_over:
                rim.second_passed()
                rim.tick()
        for _ in range(READ_AT_MOST):
            if not process.is_alive:
                return True
            moved = process.promptly()
            for reader in process.readers if process.is_alive else ():
                if process.is_alive and reader.rim.group in self.world.groups:
                    moved |= self._read_all(reader) > 0
            moved |= process.is_alive and any(rim.queue or rim.answers for rim in process.rims)
            anything |= moved
            if not moved:
                break
        return anything

    def _read_all(self, reader: Reader) -> int:
        count = self._read(reader, READ_AT_MOST)
        while reader.rim.process.is_alive and not reader.member.auto_ack and reader.open:
            if any(one.claim.rules.settle_first for one, _ in reader.open):
                reader.open.clear()
                break
            reader.say(0, ACKNOWLEDGED)
            count += 1
        return count


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(
    long_settings(150), stateful_step_count=40, phases=[Phase.explicit, Phase.generate, Phase.shrink]
)
