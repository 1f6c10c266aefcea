"""Looks at the bus with another client than Tablecast's: the independent record of what happened."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

SHARD_0 = "0.liap-tui"


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    async def on_error(error: Exception) -> None:
        print(f"nats-py: {error!r}")

    client = await nats.connect(url, error_cb=on_error, connect_timeout=5, max_reconnect_attempts=3)
    try:
        yield client
    finally:
        await client.close()


@dataclass
class Stored:
    """One commit as it stands in the log."""

    stream_seq: int
    worker: str
    commit: dict[str, Any]

    @property
    def seq(self) -> int:
        return self.commit["seq"]

    @property
    def cause(self) -> dict[str, Any]:
        return self.commit["cause"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.commit["events"]


@dataclass
class Record:
    """Everything that was republished while it was listened to, by table."""

    messages: list[Msg] = field(default_factory=list)

    def tables(self) -> dict[str, list[Stored]]:
        tables: dict[str, list[Stored]] = defaultdict(list)
        for message in self.messages:
            headers = message.headers or {}
            if headers.get("Tc-Type") == "table.archived":
                continue
            try:
                envelope = msgpack.unpackb(message.data)
                table, commit = envelope["table"], envelope["commit"]
            except (ValueError, TypeError, KeyError):
                continue
            assert message.subject == f"tc.live.0.{envelope['kind']}.{table}"
            assert envelope["v"] == 2
            stored = Stored(int(headers["Nats-Sequence"]), headers["Tc-Worker"], commit)
            tables[table].append(stored)
        return dict(tables)

    def table(self, table: str) -> list[Stored]:
        return self.tables().get(table, [])

    def ends(self) -> dict[str, dict[str, Any]]:
        """The `game_ended` event of each table that has one."""
        ends: dict[str, dict[str, Any]] = {}
        for table, commits in self.tables().items():
            for event in (event for stored in commits for event in stored.events):
                if event["type"] == "game_ended":
                    assert table not in ends, f"{table} has ended twice"
                    ends[table] = event
        return ends


@contextlib.asynccontextmanager
async def recording(client: Client) -> AsyncIterator[Record]:
    """Records `tc.live.>`, which holds stored messages only."""
    record = Record()

    async def keep(message: Msg) -> None:
        record.messages.append(message)

    subscription = await client.subscribe(
        "tc.live.>", cb=keep, pending_msgs_limit=4_000_000, pending_bytes_limit=2**31
    )
    await client.flush()
    try:
        yield record
    finally:
        await subscription.unsubscribe()


async def settled(record: Record) -> None:
    """Returns once nothing more has come for a while."""
    before = -1
    while len(record.messages) != before:
        before = len(record.messages)
        await asyncio.sleep(0.3)


def assert_unbroken(commits: list[Stored]) -> None:
    """1, 2, 3 …, each once, at rising positions."""
    assert [stored.seq for stored in commits] == list(range(1, len(commits) + 1))
    positions = [stored.stream_seq for stored in commits]
    assert positions == sorted(set(positions))
