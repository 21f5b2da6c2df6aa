"""From a claim to messages that can be delivered: what is gone, expired or not wanted is settled before any member has it."""

from collections.abc import Iterable, Sequence
from itertools import compress

from geode_client.conditions.protocol import ConditionLike
from geode_client.delivery.claims import EXPIRED, FILTERED, PENDING, REMOVED, HeldClaim
from geode_client.delivery.judged import Judged
from geode_client.delivery.members import Found, Piece
from geode_client.message import Chunk

_IS_PENDING = bytes(state == PENDING for state in range(256))


class Intake:
    """What one group wants: messages that meet its condition, of its key.

    `addressee` is the name and pattern of the group: copies of dead letters are for the group that they name.
    """

    def __init__(
        self, condition: ConditionLike | None, key: str | None, addressee: tuple[str, str] | None, judged: Judged
    ) -> None:
        self._condition = condition
        self._addressee = addressee
        self._key = key
        self._judged = judged

    def received(
        self, claim: HeldClaim, found: Iterable[Found], now_us: int, unmet: Sequence[tuple[int, int]] = ()
    ) -> list[Piece]:
        """Take in a claim and what the log holds of it: what can be delivered comes back as pieces, for `offer`.

        `unmet` are runs of offsets of which is known, without reading them, that the condition wants none; they need not be
        in `found`.
        Pending messages of which nothing was found have been removed; expired ones and those the condition does not want
        are settled as such; those that were lost with their consumers too often become dead letters. What is damaged stays
        pending.
        """
        pieces: list[Piece] = []
        reached = claim.first
        for run in unmet:
            self._judged.note(claim.topic_id, 0, 0, claim.pass_over(*run))
        for base, end_offset, chunk in found:
            start = max(base, claim.first)
            end = min(end_offset, claim.first + len(claim.state))
            self._gone(claim, reached, start)
            reached = end
            if chunk is None:
                continue
            indices = self._wanted(claim, chunk, start, end, now_us)
            if indices:
                pieces.append(Piece(claim, chunk, indices))
        self._gone(claim, reached, claim.first + len(claim.state))
        return [piece for piece in pieces if self._is_to_be_tried(piece)]

    def _gone(self, claim: HeldClaim, first: int, end: int) -> None:
        for place in range(first - claim.first, end - claim.first):
            if claim.state[place] == PENDING:
                claim.say(claim.first + place, REMOVED)

    def _wanted(self, claim: HeldClaim, chunk: Chunk, start: int, end: int, now_us: int) -> Sequence[int]:
        base, first = chunk.base_offset, claim.first
        places: Sequence[int] = range(start - base, end - base)
        if claim.state.count(PENDING, start - first, end - first) < end - start:
            places = list(compress(places, claim.state[start - first : end - first].translate(_IS_PENDING)))
        if chunk.attributes.addressee not in (None, self._addressee):
            claim.pass_over(start, end)
            return ()
        if chunk.attributes.expires_us is not None:
            alive = set(chunk.unexpired(now_us))
            expire(claim, chunk, [index for index in places if index not in alive])
            places = [index for index in places if index in alive]
        chosen = self._selected(chunk, places)
        if len(chosen) < len(places):
            kept = set(chosen)
            claim.say_of_all(FILTERED, chunk, [index for index in places if index not in kept])
        return chosen

    def _selected(self, chunk: Chunk, places: Sequence[int]) -> Sequence[int]:
        if self._key is not None:
            places = [index for index in places if chunk.attributes.key(index) == self._key]
        if self._condition is None or not places:
            return places
        selected = self._condition.select(chunk)
        if len(places) < chunk.count:
            kept = set(places)
            selected = [index for index in selected if index in kept]
        self._judged.note(chunk.topic_id, len(places), len(selected))
        return selected

    def _is_to_be_tried(self, piece: Piece) -> bool:
        """False, and all of it buried, when its attempts are used up (they ended without a word, by lost leases)."""
        claim, limit = piece.claim, piece.claim.rules.attempts_max
        if limit is None or claim.attempts < max(1, limit):
            return True
        for index in piece.indices:
            claim.bury(
                piece.chunk, index, reason="max_retries", attempts=claim.attempts, error=claim.error, failed=False
            )
        return False


def expire(claim: HeldClaim, chunk: Chunk, indices: Sequence[int]) -> None:
    """Settle messages whose time to live is over; dead letters, where the topic wants that."""
    indices = claim.without_deleted(chunk, indices)
    if not claim.rules.dead_letter_expired:
        claim.say_of_all(EXPIRED, chunk, indices)
        return
    for index in indices:
        claim.bury(chunk, index, reason="expired", attempts=claim.attempts, error=claim.error, failed=False)
