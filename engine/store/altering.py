"""The work that gives a group another condition or another order; it keeps its position."""

import msgspec

from geode_client.catalog import GroupChange
from geode_client.delivery.claiming import ClaimRequest, release_lost
from geode_client.errors import GeodeError
from geode_client.store.claiming import SqlClaims
from geode_client.store.groups import Group, require_groups
from geode_client.store.reordering import take_next_order
from geode_client.store.writer import Transaction


class AlterGroup(msgspec.Struct, eq=False):
    """Set the condition or the order of the groups of a name on a topic.

    The order is taken at once where nobody holds a message of the group, else with the settlement of the last one. With
    `dry_run` nothing changes. `in_hand`: messages that are settled first. The request names the owners known
    to be gone, whose messages do not count as held.
    """

    name: str
    topic: str
    request: ClaimRequest
    change: GroupChange
    dry_run: bool = False
    durable: bool = True
    error: GeodeError | None = None
    in_hand: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for group in require_groups(transaction, self.name, self.topic):
            if self.change.order_by not in (None, group.order_by):
                self.in_hand += self._held(transaction, group)
            if not self.dry_run:
                self._alter(transaction, group)

    def _held(self, transaction: Transaction, group: Group) -> int:
        sql = "SELECT owner, deadline_us, pending FROM claims WHERE group_id = ? AND owner IS NOT NULL"
        rows = transaction.database.rows(sql, (group.group_id,))
        request = self.request
        return sum(
            pending.count(1)
            for owner, deadline_us, pending in rows
            if owner not in request.dead and (deadline_us >= request.boot_us or owner == request.owner)
        )

    def _alter(self, transaction: Transaction, group: Group) -> None:
        change = self.change
        condition = change.condition if change.sets_condition else group.condition
        order_by = change.order_by or group.next_order
        next_order = None if order_by == group.order_by else order_by
        if (condition, next_order) == (group.condition, group.next_order):
            return
        transaction.database.cursor.execute(
            "UPDATE groups SET condition = ?, next_order = ?, revision = revision + 1 WHERE group_id = ?",
            (condition, next_order, group.group_id),
        )
        transaction.announce = True
        if next_order is not None:
            release_lost(SqlClaims(transaction, group, self.request, 0), self.request)
            take_next_order(transaction, group.group_id)
