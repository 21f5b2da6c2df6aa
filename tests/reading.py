"""Reading one message that has to be there."""

from geode_client.broker.subscription import Subscription, T


async def next_of(subscription: Subscription[T], timeout: float | None = None) -> T:
    """The next message of a subscription; fails when there is none."""
    message = await subscription.get(timeout)
    assert message is not None, "no message came"
    return message
