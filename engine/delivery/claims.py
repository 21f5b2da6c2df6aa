"""A claim in the hands of this process: which of its messages are still to be settled, and what was said of the others.

One byte a message, indexed from the first offset of the claim:

| state | meaning | left by |
| --- | --- | --- |
| ABSENT | an offset that is not of this claim | |
| PENDING | ours, nothing said of it | any word |
| RESERVED | acknowledged by a transaction that is open | its commit (ACKNOWLEDGED) or its end (UNDONE) |
| UNDONE | as PENDING, but leaving it behind is a failed attempt: its transaction was rolled back | any word |
| ACKNOWLEDGED, FILTERED, EXPIRED, REMOVED, FAILED, DEAD | said, to be written with the next settlement | written |
| the same + WRITTEN | a settlement that says it is with the store | |

The first word said of a message counts. A claim that has passed to another consumer (`is_lost`) hears no more words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geode_client.catalog import Delivery, Topic
from geode_client.delivery.claiming import Claimed
from geode_client.delivery.settlement import DeadLetter, Failed, Parked, Settlement, dead_letter
from geode_client.errors import AlreadySettled, LeaseLost
from geode_client.message import DELETED_US, Chunk
from geode_client.options import RETRY_FOR_EVER

ABSENT, PENDING, ACKNOWLEDGED, FILTERED, EXPIRED, REMOVED, FAILED, DEAD, RESERVED, UNDONE = range(10)
WRITTEN = 16
LEASE_SHORTEST_US = 100_000
ATTEMPT_EXPONENT_MAX = 40

_WORDS = {
    ACKNOWLEDGED: "acknowledged",
    FILTERED: "filtered out",
    EXPIRED: "counted as expired",
    REMOVED: "removed",
    FAILED: "given back",
    DEAD: "made a dead letter",
    RESERVED: "acknowledged in a transaction that is open",
}
_SAID = bytes(1 if PENDING < state <= DEAD else 0 for state in range(256))
_NOT_OURS = bytes(ABSENT if state in (PENDING, UNDONE) else state for state in range(256))
_NOT_WANTED = bytes(FILTERED if state == PENDING else state for state in range(256))
_MARK_WRITTEN = bytes(state + WRITTEN if PENDING < state <= DEAD else state for state in range(256))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a topic says of the messages that `group` delivers of it; times in microseconds.

    `pattern` is the group's; None for a subscriber without a group. `attempts_max` None: for ever. `settle_first`: acknowledged before it is handed over (at_most_once). `durable`: an
    acknowledgement waits for the disk (exactly_once).
    """

    group: str
    attempts_max: int | None
    backoff_us: int
    backoff_max_us: int
    lease_us: int
    dead_letter_expired: bool
    settle_first: bool
    durable: bool
    pattern: str | None = None


def rules_of(topic: Topic, group: str, pattern: str | None = None) -> Rules:
    """What the options of a topic say of its deliveries to a group; `pattern` None: to a subscriber without a group."""
    options = topic.options
    return Rules(
        group=group,
        pattern=pattern,
        attempts_max=None if options.max_retries == RETRY_FOR_EVER else options.max_retries,
        backoff_us=options.retry_backoff_us,
        backoff_max_us=options.retry_backoff_max_us,
        lease_us=max(LEASE_SHORTEST_US, options.ack_timeout_us),
        dead_letter_expired=options.dead_letter_expired,
        settle_first=topic.delivery is Delivery.AT_MOST_ONCE,
        durable=topic.delivery is Delivery.EXACTLY_ONCE,
    )


class HeldClaim:
    """One claim; `attempts` were made before it was given to us, for all of its messages.

    `waits_for`: keys of which an earlier message waits. `must_be_alone`: its message is handed over only once the claim has
    `begun`, which the backend notes while this process holds nothing else.
    """

    __slots__ = (
        "_failed",
        "_failures",
        "_letters",
        "_parked",
        "_redelivered",
        "attempts",
        "begun",
        "claim_id",
        "deadline_us",
        "error",
        "extended_us",
        "first",
        "is_lost",
        "is_unwritten",
        "key",
        "lane",
        "losses",
        "must_be_alone",
        "partition",
        "retried",
        "rules",
        "state",
        "topic_id",
        "unanswered",
        "waits_for",
    )

    def __init__(self, claimed: Claimed, rules: Rules) -> None:
        self.claim_id = claimed.claim_id
        self.topic_id, self.partition, self.lane = claimed.topic_id, claimed.partition, claimed.lane
        self.first = claimed.first
        self.state = bytearray(claimed.pending)
        self.rules = rules
        self.attempts = claimed.attempts
        self.losses = claimed.losses
        self.must_be_alone = claimed.must_be_alone and not rules.settle_first
        self.begun = False
        self.retried = claimed.retried
        self.key = claimed.key
        self.error = claimed.error
        self.waits_for = set(claimed.blocked)
        self.deadline_us = claimed.deadline_us
        self.extended_us = 0
        self.is_lost = False
        self.is_unwritten = False
        self.unanswered = 0
        self._failed = 0
        self._redelivered = claimed.pending.count(PENDING) if claimed.attempts else 0
        self._failures: list[Failed] = []
        self._parked: dict[str, list[int]] = {}
        self._letters: list[DeadLetter] = []

    @property
    def left(self) -> int:
        """Messages that nothing was said of for good."""
        return self.state.count(PENDING) + self.state.count(RESERVED) + self.state.count(UNDONE)

    def is_pending(self, offset: int) -> bool:
        """Whether a word may be said of the message."""
        return not self.is_lost and self.state[offset - self.first] in (PENDING, UNDONE)

    def is_open(self, offset: int) -> bool:
        """Whether the message is in somebody's hand or in a transaction."""
        return not self.is_lost and self.state[offset - self.first] in (PENDING, UNDONE, RESERVED)

    @property
    def has_undone(self) -> bool:
        return not self.is_lost and self.state.count(UNDONE) > 0

    def is_undone(self, offset: int) -> bool:
        return not self.is_lost and self.state[offset - self.first] == UNDONE

    def say(self, offset: int, word: int) -> None:
        """Settle one message with a word; the caller has seen that it is pending."""
        self.state[offset - self.first] = word
        self.is_unwritten = True

    def say_of_all(self, word: int, chunk: Chunk, indices: Sequence[int]) -> None:
        """Settle those of these messages that are pending; runs of them at once."""
        if not indices or self.is_lost:
            return
        self.is_unwritten = True
        start = chunk.base_offset + indices[0] - self.first
        end = chunk.base_offset + indices[-1] + 1 - self.first
        if end - start == len(indices) and self.state.count(PENDING, start, end) == len(indices):
            self.state[start:end] = bytes((word,)) * len(indices)
            return
        base = chunk.base_offset - self.first
        for index in indices:
            if self.state[base + index] == PENDING:
                self.state[base + index] = word

    def without_deleted(self, chunk: Chunk, indices: Sequence[int]) -> Sequence[int]:
        """Settle those of some expired messages that were deleted as removed; the others."""
        deleted = [index for index in indices if chunk.attributes.expiry_us(index) == DELETED_US]
        self.say_of_all(REMOVED, chunk, deleted)
        return indices if not deleted else [index for index in indices if index not in set(deleted)]

    def pass_over(self, first: int, end: int) -> int:
        """What is pending at these offsets is not wanted by the condition; how many messages those are."""
        start, stop = max(first - self.first, 0), max(end - self.first, 0)
        run = self.state[start:stop]
        count = run.count(PENDING)
        if count:
            self.state[start:stop] = run.translate(_NOT_WANTED)
            self.is_unwritten = True
        return count

    def check(self, offset: int, word: int, shown: str) -> bool:
        """Whether `word` may be said of a message; False when it was said already.

        Raises LeaseLost or AlreadySettled.
        """
        if self.is_lost:
            raise LeaseLost(
                f"message {shown} is not ours any more: its lease ended (the consumer was silent for longer than"
                " ack_timeout), its group was moved or dropped, or the subscription was closed"
            )
        said = self.state[offset - self.first] % WRITTEN
        if said in (PENDING, UNDONE):
            return True
        if said == word:
            return False
        raise AlreadySettled(f"message {shown} was {_WORDS[said]} already: the first word said of a message counts")

    def fail(self, offset: int, *, key: str | None, delay_us: int, now_us: int, error: str | None) -> None:
        """The attempt at hand failed: the message waits for the next one."""
        self.say(offset, FAILED)
        self._failed += 1
        self._failures.append(Failed(offset, key, self.attempts + 1, now_us + delay_us, error))
        if key is not None:
            self.waits_for.add(key)

    def hold(self, offset: int, key: str) -> None:
        """The message waits behind an earlier one of its key."""
        self.say(offset, FAILED)
        self._parked.setdefault(key, []).append(offset)

    def bury(self, chunk: Chunk, index: int, *, reason: str, attempts: int, error: str | None, failed: bool) -> None:
        """The message becomes a dead letter; `failed`: by a failed attempt."""
        self.say(chunk.base_offset + index, DEAD)
        self._failed += failed
        group, pattern = self.rules.group, self.rules.pattern
        self._letters.append(
            dead_letter(chunk, index, group=group, pattern=pattern, reason=reason, attempts=attempts, error=error)
        )

    def backoff_us(self, jitter: float) -> int:
        """The wait before the next attempt: it doubles with each one up to the topic's longest.

        `jitter` (0 to 1) spreads the last fifth of it, so that not all come at once.
        """
        exponent = min(self.attempts, ATTEMPT_EXPONENT_MAX)
        wait = min(self.rules.backoff_us << exponent, self.rules.backoff_max_us)
        return int(wait * (0.8 + 0.2 * jitter))

    # ── acknowledged in a transaction ──
    def is_reserved(self, offset: int) -> bool:
        return not self.is_lost and self.state[offset - self.first] == RESERVED

    def reserve(self, offset: int) -> None:
        """A transaction that is open acknowledges the message; the caller has seen that it is pending."""
        self.state[offset - self.first] = RESERVED

    def reserved(self, offsets: Iterable[int]) -> Settlement:
        """What the transaction is to write."""
        mask = bytearray(len(self.state))
        for offset in offsets:
            mask[offset - self.first] = 1
        return Settlement(
            claim_id=self.claim_id,
            topic_id=self.topic_id,
            partition=self.partition,
            lane=self.lane,
            settled=bytes(mask),
            acknowledged=mask.count(1),
        )

    def transaction_ended(self, offsets: Iterable[int], *, stored: bool) -> None:
        """The transaction that acknowledged these messages is over."""
        for offset in offsets:
            if self.state[offset - self.first] == RESERVED:
                self.state[offset - self.first] = ACKNOWLEDGED + WRITTEN if stored else UNDONE

    # ── what is to be written ──
    def settled(self, *, let_go: bool = False, tail_from: int | None = None) -> Settlement:
        """What is to be written now; from here on it counts as written, and as `unanswered` until the store has it.

        `let_go` gives up all that is left; `tail_from` (a place in `state`) only what stands from there on.
        """
        made = Settlement(
            claim_id=self.claim_id,
            topic_id=self.topic_id,
            partition=self.partition,
            lane=self.lane,
            settled=bytes(self.state.translate(_SAID)),
            acknowledged=self.state.count(ACKNOWLEDGED),
            filtered=self.state.count(FILTERED),
            expired=self.state.count(EXPIRED),
            removed=self.state.count(REMOVED),
            failed=self._failed,
            redelivered=self._redelivered,
            failures=self._failures,
            parked=[_parked(key, offsets) for key, offsets in self._parked.items()],
            dead_letters=self._letters,
            let_go=let_go,
            tail_from=tail_from,
        )
        self.state = self.state.translate(_MARK_WRITTEN)
        if tail_from is not None:
            # What was said of the others stays, so that it can be said again.
            self.state[tail_from:] = self.state[tail_from:].translate(_NOT_OURS)
        self._failures, self._letters, self._parked = [], [], {}
        self._failed = self._redelivered = 0
        self.is_unwritten = False
        self.unanswered += 1
        return made


def _parked(key: str, offsets: Sequence[int]) -> Parked:
    first, last = min(offsets), max(offsets)
    pending = bytearray(last + 1 - first)
    for offset in offsets:
        pending[offset - first] = 1
    return Parked(key, first, bytes(pending))
