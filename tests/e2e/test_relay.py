"""A game server that is not ours: it publishes, with nothing but a socket, and pages move."""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgpack
from conftest import Roles
from players import connected
from playwright.sync_api import expect
from programs import PATIENCE, TABLECAST, poll, run, tablecast

KIND = "my-game"


def new_table() -> str:
    """A UUID of version 7, by hand: the time in milliseconds, then chance."""
    number = uuid.uuid4().int & ~(0xFFFF_FFFF_FFFF << 80) | int(time.time() * 1000) << 80
    return str(uuid.UUID(int=number & ~(0xF << 76) | 0x7 << 76))


class Publisher:
    """What `nats pub` sends, byte by byte."""

    def __init__(self, raw: socket.socket):
        self._socket = raw
        self._lines = raw.makefile("rb")
        raw.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')

    def publish(self, table: str, payload: dict | bytes, **headers: str) -> None:
        self.publish_to(f"tc.evt.0.{KIND}.{table}", payload, **headers)

    def publish_to(self, to: str, payload: dict | bytes, **headers: str) -> None:
        subject = to.encode()
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        if headers:
            lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            message = b"HPUB %s %d %d\r\n%s%s\r\n" % (subject, len(head), len(head) + len(body), head, body)
        else:
            message = b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body)
        self._socket.sendall(message + b"PING\r\n")
        while not (line := self._lines.readline()).startswith(b"PONG"):
            assert line and not line.startswith(b"-ERR"), line


@contextmanager
def publisher(url: str) -> Iterator[Publisher]:
    server = urlsplit(url)
    with socket.create_connection((server.hostname, server.port), PATIENCE) as raw:
        yield Publisher(raw)


def test_a_plain_publish_moves_a_spectators_page(roles: Roles, new_context) -> None:
    gateway = roles.gateway("--relay-kind", KIND)
    table = new_table()
    with publisher(roles.nats.url) as server:
        server.publish(table, {"public": [{"type": "moved", "to": "e4"}]})
        page = new_context().new_page()
        page.goto(f"{gateway.page}t/{table}")
        expect(page.get_by_test_id("table")).to_have_attribute("data-seq", "1")
        commits = page.get_by_test_id("relayed-commit")
        expect(commits).to_have_text(["moved · to e4"])

        line = {"table": table, "kind": KIND, "status": "running", "seats": [{"name": "Alice", "bot": False}]}
        server.publish_to(f"$KV.tc_lobby.{table}", line)
        lobby = new_context().new_page()
        lobby.goto(gateway.page)
        expect(lobby.locator(f"a[href='/t/{table}']").first).to_be_visible()

        packed = msgpack.packb({"seq": 2, "public": [{"type": "moved", "to": "e5"}]})
        server.publish(table, packed, Content_Type="application/msgpack", Nats_Msg_Id=f"{table}:2")
        expect(commits).to_have_text(["moved · to e5", "moved · to e4"])
        server.publish(table, b"not a commit")
        expect(page.get_by_test_id("table")).to_have_attribute("data-seq", "3")
        server.publish(table, {"state": {"public": {"board": "after e5"}, "seats": {"0": "sentinel"}}})
        expect(page.get_by_text("after e5")).to_be_visible()
        expect(commits).to_have_count(0)
        assert "sentinel" not in page.content()

        players = [{"seat": 0, "player": "alice", "name": "Alice"}]
        server.publish(table, {"players": players, "ended": {"winners": [0]}})
        expect(page.get_by_test_id("game-over")).to_have_text("Won by Alice.")


async def test_a_relayed_table_is_shown_resumed_and_archived(roles: Roles) -> None:
    gateway = roles.gateway("--relay-kind", KIND)
    table = new_table()
    with publisher(roles.nats.url) as server:
        server.publish(table, {"public": [{"type": "n", "n": 1}], "seats": {"0": [{"type": "sentinel"}]}})
        async with connected(gateway.socket) as spectator:
            await spectator.subscribe(table)
            await spectator.reaches(table, 1)
            await asyncio.to_thread(server.publish, table, {"seats": {"0": [{"type": "sentinel"}]}})
            await asyncio.to_thread(server.publish, table, {"public": [{"type": "n", "n": 3}]})
            await spectator.reaches(table, 3)
            commits = [frame for frame in spectator.of_table(table) if frame["type"] == "commit"]
            assert [frame["events"] for frame in commits] == [[], [{"type": "n", "n": 3}]]
            assert "sentinel" not in json.dumps(spectator.of_table(table))
        async with connected(gateway.socket) as spectator:
            subscribed = await spectator.subscribe(table, cursor=1)
            assert subscribed["recovered"] is True
            await spectator.reaches(table, 3)
            assert "sentinel" not in json.dumps(spectator.of_table(table))

        shown = tablecast("tables", "--nats-url", roles.nats.url, "--relay-kind", KIND, "--json", "show", table)
        assert json.loads(shown)["seq"] == 3
        assert "sentinel" not in shown

        # The end comes while no archiver runs and nobody watches.
        await asyncio.to_thread(server.publish, table, {"public": [{"type": "mate"}], "ended": {"winners": [0]}})
    roles.archiver("--relay-kind", KIND)

    def archived() -> dict | None:
        got = run_archive(roles, table)
        return json.loads(got) if got else None

    row = await asyncio.to_thread(poll, archived, "the table is in the archive")
    assert (row["kind"], row["status"], row["commits"], row["winners"]) == (KIND, "archived", 4, [0])
    assert [event["type"] for event in row["events"]] == ["n", "sentinel", "sentinel", "n", "mate", "table.completed"]
    assert row["events"][1]["data"] == {"only_seat": 0}


def run_archive(roles: Roles, table: str) -> str:
    done = run(TABLECAST, "archive", "--store", roles.store, "--json", "get", table)
    return done.stdout if done.returncode == 0 else ""


def test_a_kind_that_is_played_here_cannot_be_relayed(roles: Roles) -> None:
    options = ("--nats-url", roles.nats.url, "--relay-kind", "chess", "--port", "0")
    program = roles.programs.tablecast("gateway", *options, TABLECAST_GATEWAY_TOKEN_SECRET="x" * 32)
    assert program.wait() == 2
    assert any("plays it itself" in line for line in program.log())
