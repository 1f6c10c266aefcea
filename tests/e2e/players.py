"""Speaks `tablecast.v1` as a client would, and plays Liap Tui through it."""

import asyncio
import contextlib
import json
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
from programs import PATIENCE
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]

SUBPROTOCOLS = {"json": "tablecast.v1.json", "msgpack": "tablecast.v1.msgpack"}
# A game without pauses, so that it goes as fast as it can be played.
NO_PAUSES = {
    "pauses": {
        "deal_ms": 0,
        "redeal_ms": 0,
        "round_start_ms": 0,
        "turn_end_ms": 0,
        "turn_results_ms": 0,
        "scoring_ms": 0,
    }
}
AT_ONCE = {"start": "when_full", "bot_delay_ms": [0, 0]}


def guest(page: str, name: str) -> Frame:
    """A guest's token, player and name."""
    request = urllib.request.Request(
        f"{page}v1/guest",
        data=json.dumps({"name": name}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


class Gone(Exception):
    """The connection has ended."""


class Client:
    """One connection. It keeps every frame that came, decoded and as it was on the wire."""

    def __init__(self, socket: Any, wire_format: str):
        self.socket = socket
        self.format = wire_format
        self.frames: list[Frame] = []
        self.wire: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self._news = asyncio.Condition()
        self._verdicts: dict[str, asyncio.Future[Frame]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                await self._take(message)
        except ConnectionClosed:
            pass
        self.closed = (self.socket.close_code, self.socket.close_reason)
        async with self._news:
            self._news.notify_all()

    async def _take(self, message: str | bytes) -> None:
        if self.format == "json":
            assert isinstance(message, str)
            frame, raw = json.loads(message), message.encode()
        else:
            assert isinstance(message, bytes)
            frame, raw = msgpack.unpackb(message), message
        if frame["type"] in ("opened", "accepted", "rejected"):
            waiting = self._verdicts.pop(frame["id"], None)
            if waiting and not waiting.done():
                waiting.set_result(frame)
        async with self._news:
            self.frames.append(frame)
            self.wire.append(raw)
            self._news.notify_all()

    async def send(self, frame: Frame) -> None:
        try:
            await self.socket.send(json.dumps(frame) if self.format == "json" else msgpack.packb(frame))
        except ConnectionClosed as error:
            raise Gone(str(error)) from None

    async def wait_for(
        self, wanted: Callable[[Frame], bool], what: str, after: int = 0, patience: float = PATIENCE
    ) -> Frame:
        """The first frame, from the number `after` on, that is wanted."""
        position = after

        async def look() -> Frame:
            nonlocal position
            while True:
                while position < len(self.frames):
                    position += 1
                    if wanted(self.frames[position - 1]):
                        return self.frames[position - 1]
                if self.closed:
                    raise Gone(f"closed with {self.closed} while waiting for {what}")
                async with self._news:
                    await self._news.wait_for(lambda: position < len(self.frames) or self.closed)

        try:
            return await asyncio.wait_for(look(), patience)
        except TimeoutError:
            last = [json.dumps(frame)[:200] for frame in self.frames[-4:]]
            raise AssertionError(f"no {what} within {patience} s; last came {last}") from None

    async def expect(self, frame_type: str, after: int = 0, patience: float = PATIENCE) -> Frame:
        return await self.wait_for(lambda frame: frame["type"] == frame_type, frame_type, after, patience)

    async def expect_close(self, patience: float = PATIENCE) -> tuple[int, str]:
        await asyncio.wait_for(asyncio.shield(self._reader), patience)
        assert self.closed is not None
        return self.closed

    async def answer(self, frame: Frame) -> Frame:
        """Sends a frame that gets a frame in answer."""
        after = len(self.frames)
        await self.send(frame)
        return await self.wait_for(lambda _frame: True, f"answer to {frame}", after)

    async def ask(self, frame: Frame) -> Frame:
        """Sends a command or an opening once; its verdict."""
        waiting = self._verdicts[frame["id"]] = asyncio.get_running_loop().create_future()
        await self.send(frame)
        done, _ = await asyncio.wait([waiting, self._reader], timeout=PATIENCE, return_when="FIRST_COMPLETED")
        if waiting in done:
            return waiting.result()
        assert self.closed, f"no verdict on {frame} within {PATIENCE} s"
        raise Gone(f"closed with {self.closed} before the verdict on {frame}")

    async def command(self, table: str, command: Frame, command_id: str | None = None) -> Frame:
        """Sends a command until it has a verdict that is final, always with the same id, as clients should."""
        frame = {"type": "command", "id": command_id or new_id(), "table": table, "command": command}
        return await self.insist(frame)

    async def insist(self, frame: Frame) -> Frame:
        deadline = time.monotonic() + PATIENCE
        while True:
            verdict = await self.ask(frame)
            wait_ms = verdict.get("retry_after_ms")
            if verdict["type"] != "rejected" or wait_ms is None or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(wait_ms / 1000)

    async def open(self, **wish: Any) -> str:
        """Opens a table of Liap Tui; its id."""
        frame = {"type": "open", "id": new_id(), "kind": "liap-tui", "setup": NO_PAUSES, "options": AT_ONCE}
        verdict = await self.insist(frame | wish)
        assert verdict["type"] == "opened", verdict
        assert verdict["seq"] == 1
        return verdict["table"]

    async def subscribe(self, table: str, cursor: int | None = None, deliver: str = "events") -> Frame:
        """Follows a table; the `subscribed` frame."""
        after = len(self.frames)
        await self.send({"type": "subscribe", "table": table, "cursor": cursor, "deliver": deliver})
        answer = await self.wait_for(
            lambda frame: frame["type"] in ("subscribed", "unsubscribed") and frame["table"] == table,
            f"answer to subscribe {table}",
            after,
        )
        assert answer["type"] == "subscribed", answer
        return answer

    def of_table(self, table: str) -> list[Frame]:
        """What came of a table: `subscribed`, `commit`, `snapshot`, `unsubscribed`."""
        types = ("subscribed", "commit", "snapshot", "unsubscribed")
        return [frame for frame in self.frames if frame["type"] in types and frame["table"] == table]

    def cursor(self, table: str) -> int:
        """The last `seq` that came of a table."""
        seqs = (frame["seq"] for frame in self.of_table(table) if frame["type"] in ("commit", "snapshot"))
        return max(seqs, default=0)

    async def reaches(self, table: str, seq: int, patience: float = PATIENCE) -> None:
        """Returns once everything up to `seq` has come."""
        await self.wait_for(
            lambda frame: frame["type"] in ("commit", "snapshot") and frame["table"] == table and frame["seq"] >= seq,
            f"commit {seq} of {table}",
            patience=patience,
        )

    async def close(self) -> None:
        await self.socket.close()
        await self._reader


def new_id() -> str:
    return uuid.uuid4().hex


@contextlib.asynccontextmanager
async def connected(
    socket_url: str, token: str | None = None, wire_format: str = "json", headers: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    """A connection that has been welcomed, and has said who it is if it has a token."""
    subprotocols = [SUBPROTOCOLS[wire_format]]
    async with connect(
        socket_url,
        subprotocols=subprotocols,
        additional_headers=headers,
        max_size=2**24,
        max_queue=None,
        ping_interval=None,
        proxy=None,
    ) as socket:
        assert socket.subprotocol == subprotocols[0]
        client = Client(socket, wire_format)
        await client.expect("welcome")
        if token is not None:
            await client.send({"type": "hello", "token": token})
            await client.wait_for(lambda frame: frame["type"] == "welcome" and frame["player"], "our welcome")
        try:
            yield client
        finally:
            await client.close()


def choice(view: Frame) -> Frame | None:
    """What a player of no skill does in this view: something legal, or nothing if nothing is owed."""
    game = view["game"]
    if view["status"] != "running" or game["seat"] is None or game["seat"] not in game["awaiting"]:
        return None
    match game["phase"]:
        case "preparation":
            return {"type": "redeal_decline"}
        case "declaration":
            return {"type": "declare", "value": game["legal_declarations"][0]}
        case "turn":
            # One piece is always a valid lead, and followers may play anything of the right count.
            return {"type": "play", "pieces": game["hand"][: game["required"] or 1]}
        case phase:
            raise AssertionError(f"a decision is owed in phase {phase}")


class Player:
    """Plays a seat by the views that one connection after the other is sent."""

    def __init__(self, table: str):
        self.table = table
        # The `seq` that each command was accepted with, by its id.
        self.accepted: dict[str, int] = {}
        # The command on its way, until its verdict is known: asked again after a reconnection.
        self._open_command: tuple[str, Frame] | None = None
        # How far the frames of which connection have been read, and from which commit on a view is news.
        self._read: tuple[Client | None, int] = (None, 0)
        self._decided_at = 0

    async def play(self, client: Client, until: Callable[[Frame], bool] = lambda _view: False) -> Frame:
        """Plays on until the table has ended, or what is wished for is seen; the last view."""
        while True:
            position = self._read[1] if self._read[0] is client else 0
            snapshot = await client.wait_for(
                lambda frame: frame["type"] == "snapshot" and frame["table"] == self.table,
                f"view of {self.table}",
                position,
            )
            view, is_wished = snapshot["view"], until(snapshot["view"])
            after = client.frames.index(snapshot, position)
            # What stopped us is looked at again when we go on.
            self._read = (client, after if is_wished else after + 1)
            # A view from before the last move still shows it as owed.
            if snapshot["seq"] < self._decided_at:
                continue
            if view["status"] == "ended" or is_wished:
                return view
            if self._open_command is None and (command := choice(view)):
                self._open_command = (new_id(), command)
            if self._open_command is not None:
                await self._send(client)
                # One that was sent again may be older than this view, which then shows the next move as owed.
                if snapshot["seq"] >= self._decided_at:
                    self._read = (client, after)

    async def _send(self, client: Client) -> None:
        command_id, command = self._open_command
        verdict = await client.command(self.table, command, command_id)
        self._open_command = None
        assert verdict["type"] == "accepted", (command, verdict)
        assert command_id not in self.accepted
        self.accepted[command_id] = self._decided_at = verdict["seq"]


def assert_continuous(frames: list[Frame], cursor: int = 0) -> int:
    """Checks the frames of one table, of connections that resumed with their cursors; the last `seq`.

    Every commit comes once and in order. Only a snapshot may stand for commits that did not come.
    """
    last, is_fresh = cursor, False
    for frame in frames:
        match frame["type"]:
            case "subscribed":
                # A snapshot may be true of an earlier moment than the cursor's only if nothing was recovered.
                is_fresh = not frame["recovered"]
            case "snapshot":
                assert frame["seq"] >= last, f"snapshot {frame['seq']} after {last}"
                last, is_fresh = frame["seq"], False
            case "commit":
                assert not is_fresh, "a commit before the snapshot it follows"
                assert frame["seq"] == last + 1, f"commit {frame['seq']} after {last}"
                last = frame["seq"]
            case other:
                raise AssertionError(f"{other}: {frame}")
    return last
