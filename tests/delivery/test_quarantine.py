"""A message that must be alone: who waits for whom, and what becomes of it when it does not become quiet."""

from geode_client.delivery.quarantine import BACKOFF_FIRST_US, DRAIN_US, Quarantine


class Group:
    """A scheduler as the quarantine sees it."""

    def __init__(self, quarantine: Quarantine, *, holds: set[int] | None = None) -> None:
        self.holds = holds or set()
        self.changes: list[bool] = []
        self.quiet = 0
        self._quarantine = quarantine
        quarantine.enter(self)

    def holds_only(self, claim_id: int | None) -> bool:
        return self.holds <= {claim_id}

    def quarantine_changed(self) -> None:
        self.changes.append(self._quarantine.is_open)

    def is_quiet(self) -> None:
        self.quiet += 1


def test_it_begins_once_nothing_else_is_held_in_any_group() -> None:
    quarantine = Quarantine()
    asking, other = Group(quarantine, holds={7, 8}), Group(quarantine, holds={9})
    assert quarantine.request(asking, 7, 0)
    assert (asking.changes, other.changes) == ([False], [False])
    for group, left in ((asking, {7}), (other, set[int]())):
        assert asking.quiet == 0
        group.holds = left
        quarantine.look()
    assert asking.quiet == 1
    assert other.quiet == 0


def test_one_at_a_time() -> None:
    quarantine = Quarantine()
    first, second = Group(quarantine, holds={1}), Group(quarantine)
    assert quarantine.request(first, 1, 0)
    assert not quarantine.request(second, 2, 0)
    assert not quarantine.may_request(0)
    quarantine.begun()
    quarantine.end(settled=True)
    assert quarantine.is_open
    assert quarantine.request(second, 2, 0)


def test_the_scheduler_that_asked_leaves() -> None:
    quarantine = Quarantine()
    asking, other = Group(quarantine, holds={1}), Group(quarantine)
    quarantine.request(asking, 1, 0)
    quarantine.leave(asking)
    assert quarantine.is_open
    assert other.changes == [False, True]


def test_another_scheduler_leaves_and_was_the_last_that_held_something() -> None:
    quarantine = Quarantine()
    asking, other = Group(quarantine, holds={1}), Group(quarantine, holds={2})
    quarantine.request(asking, 1, 0)
    quarantine.leave(other)
    assert asking.quiet == 1


def test_what_does_not_become_quiet_is_given_up_for_longer_each_time() -> None:
    quarantine = Quarantine()
    asking = Group(quarantine, holds={1})
    Group(quarantine, holds={2})
    now_us, waits = 0, []
    for _ in range(3):
        assert quarantine.request(asking, 1, now_us)
        assert not quarantine.is_overdue(now_us + DRAIN_US - 1)
        now_us += DRAIN_US
        assert quarantine.is_overdue(now_us)
        quarantine.give_up(now_us)
        start_us = now_us
        while not quarantine.may_request(now_us):
            now_us += BACKOFF_FIRST_US // 2
        waits.append(now_us - start_us)
    assert waits == [BACKOFF_FIRST_US, 2 * BACKOFF_FIRST_US, 4 * BACKOFF_FIRST_US]


def test_what_has_begun_is_never_overdue() -> None:
    quarantine = Quarantine()
    asking = Group(quarantine, holds={1})
    quarantine.request(asking, 1, 0)
    quarantine.begun()
    assert not quarantine.is_overdue(100 * DRAIN_US)
