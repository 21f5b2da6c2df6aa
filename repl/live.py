"""A live SUBSCRIBE on a terminal: messages as they come, and below them a line that says how it goes.

The line is drawn again after messages and twice a second; it is never wider than the screen, and nothing of it stays behind.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size

from geode_client.broker.subscription import Subscription
from geode_client.client import Client, broker_of
from geode_client.errors import GeodeError
from geode_client.repl.errors import redraws
from geode_client.repl.render import Output, counted, safe
from geode_client.repl.screen import columns_of

REDRAW_SECONDS = 0.5
RATE_SECONDS = 5.0
LAG_SECONDS = 1.0
FLUSH_MESSAGES = 200


class StatusLine:
    """The last line of the screen while messages go by above it; does nothing where nobody looks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = False
        self.enabled = redraws(stream)

    def hide(self) -> None:
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._is_shown = False

    def show(self, text: str) -> None:
        if not self.enabled:
            return
        width = columns_of(self._stream) - 1
        if cell_len(text) > width:
            text = set_cell_size(text, width)
        self._stream.write(f"\r\x1b[K\x1b[2m{text}\x1b[0m")
        self._stream.flush()
        self._is_shown = True


class Rate:
    """Events a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, count: int, now: float) -> None:
        self._seen.append((now, count))
        while self._seen and self._seen[0][0] < now - RATE_SECONDS:
            self._seen.popleft()

    def value(self, now: float) -> float:
        counted_since = [count for at, count in self._seen if at >= now - RATE_SECONDS]
        if not counted_since:
            return 0.0
        # Over less than the whole span as long as it has not run that long.
        return sum(counted_since) / min(RATE_SECONDS, max(now - self._seen[0][0], REDRAW_SECONDS))


class Tail:
    """Shows the messages of one subscription until it ends or is cancelled."""

    def __init__(
        self,
        client: Client,
        subscription: Subscription,
        output: Output,
        stream: TextIO,
        *,
        summary: TextIO | None = None,
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._output = output
        self._status = StatusLine(stream)
        self._summary_on = summary or stream
        self._rate = Rate()
        self._started = time.monotonic()
        self._lag: int | None = None

    async def run(self) -> bool:
        """Give True when it ended by itself, False when it was cancelled; a summary has been shown."""
        try:
            async with _beside(self._watch()):
                await self._read()
            ended = True
        except asyncio.CancelledError:
            # Ctrl-C is how a person ends it: the cancellation has done its work.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            ended = False
        finally:
            self._status.hide()
            await self._subscription.close()
        if self._summary_on.isatty():
            from geode_client.repl.tables import TableOutput

            TableOutput(self._summary_on, None).ended(self._subscription, self._summary(ended))
        return ended

    async def _read(self) -> None:
        self._draw()
        async for batch in self._subscription.batches(FLUSH_MESSAGES, 0.02):
            self._status.hide()
            for message in batch:
                self._output.message(message, label="")
            self._output.flush()
            self._rate.note(len(batch), time.monotonic())
            self._draw()
            # A busy topic must not keep Ctrl-C waiting.
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        asked = 0.0
        while True:
            await asyncio.sleep(REDRAW_SECONDS)
            if time.monotonic() - asked >= LAG_SECONDS:
                asked = time.monotonic()
                self._lag = await self._lag_now()
            self._draw()

    async def _lag_now(self) -> int | None:
        with contextlib.suppress(GeodeError):
            mine = self._subscription.subscriber_id
            broker = broker_of(self._client)
            for one in (await broker.report(["subscribers"], self._subscription.request.pattern)).subscribers:
                if one.subscriber_id == mine:
                    return one.lag_messages
        return None

    def _draw(self) -> None:
        now = time.monotonic()
        lag = "" if self._lag is None else f" · lag {self._lag:,}"
        self._status.show(
            f"● {safe(self._subscription.request.pattern)} · {self._subscription.received:,} received"
            f" · {self._rate.value(now):,.0f}/s{lag} · {_clock(now - self._started)} · Ctrl-C ends it"
        )

    def _summary(self, ended: bool) -> str:
        seconds = time.monotonic() - self._started
        received = self._subscription.received
        pace = f", {received / seconds:,.0f} a second" if received and seconds >= 1 else ""
        why = "" if ended else "; ended by Ctrl-C"
        missed = self._subscription.missed
        gone = f"; {counted(missed, 'message')} had been removed before" if missed else ""
        return f"in {seconds:.1f} s{pace}{gone}{why}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run work beside the body, until the body is left."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
