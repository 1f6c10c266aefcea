"""Bad input from clients and from the bus: a documented answer for whoever sent it, and nobody else's problem."""

import asyncio
import contextlib
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import bus
import msgpack
import pytest
from conftest import UNTHROTTLED, Gateway, Roles, start_nats
from players import Client, Gone, Player, choice, connected, guest, new_id
from programs import Program, Programs, poll_async, run, tablecast, TABLECAST
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

UNKNOWN = "019ab3c4-5d6e-7f80-9123-456789abcdef"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """A worker and a gateway that all tests of this module treat badly."""
    programs = Programs(tmp_path_factory.mktemp("served"))
    try:
        nats = start_nats(programs, "--jetstream", "--store_dir", str(programs.directory / "nats"))
        roles = Roles(programs, nats)
        roles.worker("w1")
        yield roles.gateway()
        assert not [line for program in programs.all for line in program.log() if "panicked" in line]
    finally:
        programs.reap()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("worker", "--durability", "eternal"), "standard"),
        (("worker", "--durability", "standard", "--replicas", "1"), "--replicas 3"),
        (("tables", "--durability", "standard", "--replicas", "2", "ls"), "--replicas 3"),
        (("streams", "--durability", "standard", "--replicas", "1", "plan"), "--replicas 3"),
        (("archiver", "--replicas", "0", "--store", "file:///nowhere"), "--replicas"),
        (("bench", "load", "--durability", "standard"), "strict"),
        (("bench", "load", "--commits", "2"), "--commits"),
        (("bench", "load", "--tables", "0"), "--tables"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_a_mistake_in_the_options(arguments: tuple[str, ...], named: str) -> None:
    done = run(TABLECAST, *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "panicked" not in done.stderr


async def hands_on(client: Client, raw: str | bytes) -> dict[str, Any]:
    """The answer to a message that is written by hand."""
    after = len(client.frames)
    await client.socket.send(raw)
    return await client.wait_for(lambda _frame: True, f"answer to {raw!r}", after)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        ('"hello"', ""),
        ("{}", "type"),
        ('{"type": 7}', ""),
        ('{"type": "dance"}', "dance"),
        ('{"type": "ping", "dta": 7}', "dta"),
        ('{"type": "ping", "data": -1}', ""),
        ('{"type": "ping"} {}', ""),
        ('{"type": "subscribe"}', "table"),
        ('{"type": "subscribe", "table": "42"}', "UUID"),
        ('{"type": "subscribe", "table": "9f8b1c9e-0000-4000-8000-000000000000"}', "UUID"),
        ('{"type": "subscribe", "table": "tc.evt.>"}', "UUID"),
        ('{"type": "command", "id": "a b", "table": "%s", "command": {}}' % UNKNOWN, "command id"),
        ('{"type": "open", "id": "a", "kind": "Liap Tui"}', "kind"),
        ('{"type": "open", "id": "a", "kind": "liap-tui", "options": {"start": "never"}}', "never"),
        ('{"type": "open", "id": "a", "kind": "liap-tui", "seats": ["you"]}', "you"),
        ("[" * 2000, ""),
    ],
)
async def test_a_frame_that_is_not_of_the_protocol_is_named(served: Gateway, raw: str, named: str) -> None:
    async with connected(served.socket) as client:
        answer = await hands_on(client, raw)
        assert (answer["type"], answer["code"]) == ("error", "malformed"), answer
        assert named in answer["message"], answer
        assert (await client.answer({"type": "ping", "data": 5}))["data"] == 5


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x93\x01", b"\x81\xa4type\xa5dance", b"\xdf\xff\xff\xff\xff"])
async def test_a_binary_frame_that_is_not_of_the_protocol_is_named(served: Gateway, raw: bytes) -> None:
    async with connected(served.socket, wire_format="msgpack") as client:
        answer = await hands_on(client, raw)
        assert (answer["type"], answer["code"]) == ("error", "malformed"), answer
        assert (await client.answer({"type": "ping", "data": 5}))["data"] == 5


async def test_who_goes_on_sending_such_frames_is_cut_off(served: Gateway) -> None:
    async with connected(served.socket) as client:
        for _ in range(30):
            await client.socket.send("{")
        assert await client.expect_close() == (4500, "bad_frames")


async def test_a_frame_over_the_announced_size_is_cut_off(served: Gateway) -> None:
    async with connected(served.socket) as client:
        largest = client.frames[0]["frame_bytes_max"]
        fits = json.dumps({"type": "ping", "data": 5})
        assert (await hands_on(client, fits + " " * (largest - len(fits))))["type"] == "pong"
        await client.socket.send(fits + " " * (largest - len(fits) + 1))
        assert await client.expect_close() == (4501, "frame_too_big")
    async with connected(served.socket) as client:
        with contextlib.suppress(ConnectionClosed):
            await client.socket.send("x" * 50 * largest)
        assert await client.expect_close() == (4501, "frame_too_big")


async def test_the_other_kind_of_frame_is_cut_off(served: Gateway) -> None:
    async with connected(served.socket) as client:
        await client.socket.send(b'{"type": "ping"}')
        assert await client.expect_close() == (4502, "wrong_format")
    async with connected(served.socket, wire_format="msgpack") as client:
        await client.socket.send('{"type": "ping"}')
        assert await client.expect_close() == (4502, "wrong_format")


def forged(token: str) -> list[str]:
    head, claims, signature = token.split(".")
    # {"alg":"none"}
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."
    return ["", "nonsense", token[:-4] + "AAAA", f"{head}.{claims[:-2]}AA.{signature}", unsigned, "x" * 3000]


async def test_a_token_that_is_not_ours_is_cut_off(served: Gateway) -> None:
    for token in forged(guest(served.page, "Ann")["token"]):
        async with connected(served.socket) as client:
            await client.send({"type": "hello", "token": token})
            assert await client.expect_close() == (4503, "bad_token"), token


async def test_a_connection_stays_one_players(served: Gateway) -> None:
    ann, bob = guest(served.page, "Ann"), guest(served.page, "Bob")
    async with connected(served.socket, ann["token"]) as client:
        assert (await client.answer({"type": "hello", "token": ann["token"]}))["player"] == ann["player"]
        answer = await client.answer({"type": "hello", "token": bob["token"]})
        assert (answer["type"], answer["code"]) == ("error", "already_identified")


async def test_a_command_needs_a_player(served: Gateway) -> None:
    async with connected(served.socket) as client:
        command = {"type": "command", "id": "c-1", "table": UNKNOWN, "command": {"type": "declare", "value": 1}}
        refused = await client.ask(command)
        assert (refused["type"], refused["code"], refused["table"]) == ("rejected", "not_identified", UNKNOWN)
        refused = await client.ask({"type": "open", "id": "o-1", "kind": "liap-tui"})
        assert (refused["type"], refused["code"], refused["id"]) == ("rejected", "not_identified", "o-1")


async def test_what_is_not_there_is_said_to_be_unknown(served: Gateway) -> None:
    ann = guest(served.page, "Ann")
    async with connected(served.socket, ann["token"]) as client:
        refused = await client.command(UNKNOWN, {"type": "declare", "value": 1})
        assert (refused["type"], refused["code"]) == ("rejected", "unknown_table"), refused
        refused = await client.insist({"type": "open", "id": new_id(), "kind": "go-fish"})
        assert (refused["type"], refused["code"]) == ("rejected", "unknown_kind"), refused
        answer = await client.answer({"type": "subscribe", "table": UNKNOWN})
        assert (answer["type"], answer["reason"]) == ("unsubscribed", "unknown_table"), answer
        answer = await client.answer({"type": "unsubscribe", "table": UNKNOWN})
        assert (answer["type"], answer["reason"]) == ("unsubscribed", "asked"), answer


@pytest.mark.parametrize(
    "wish",
    [
        {"seats": ["me", "me", "bot", "bot"]},
        {"seats": ["bot", "bot", "bot", "bot"]},
        {"seats": ["me", "bot"]},
        {"seats": ["me"] + ["bot"] * 40},
        {"seats": []},
        {"setup": {"traget": 50}},
        {"setup": {"target": 0}},
        {"setup": {"pauses": {"deal_ms": 10**9}}},
        {"setup": [1]},
        {"options": {"bot_delay_ms": [9, 1]}},
    ],
)
async def test_a_table_that_cannot_be_is_not_opened(served: Gateway, wish: dict[str, Any]) -> None:
    ann = guest(served.page, "Ann")
    async with connected(served.socket, ann["token"]) as client:
        refused = await client.insist({"type": "open", "id": new_id(), "kind": "liap-tui"} | wish)
        assert (refused["type"], refused["code"]) == ("rejected", "bad_opening"), refused
        assert refused["message"]


async def test_an_illegal_move_is_refused_by_the_rule_that_forbids_it(served: Gateway) -> None:
    ann, bob = guest(served.page, "Ann"), guest(served.page, "Bob")
    async with connected(served.socket, ann["token"]) as client, connected(served.socket, bob["token"]) as stranger:
        table = await client.open(seats=["me", "open", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        await refuses(client, table, {"type": "declare", "value": 1}, "not_started")
        await refuses(client, table, {"type": "table.start"}, "seats_open")
        await refuses(client, table, {"type": "table.sit", "seat": 1}, "already_seated")
        await refuses(client, table, {"type": "table.remove_player", "seat": 0}, "own_seat")
        await refuses(client, table, {"type": "table.add_bot", "seat": 9}, "no_such_seat")
        await refuses(client, table, {"type": "table.dance"}, "unknown_command")
        await refuses(client, table, {"type": "dance"}, "unknown_command")
        await refuses(client, table, {"type": "declare"}, "unknown_command")
        await refuses(client, table, {}, "unknown_command")
        await refuses(stranger, table, {"type": "table.add_bot", "seat": 1}, "not_host")
        await refuses(stranger, table, {"type": "table.leave"}, "not_seated")
        await refuses(stranger, table, {"type": "table.sit", "seat": 0}, "seat_taken")
        await refuses(stranger, table, {"type": "table.sit", "seat": 200}, "no_such_seat")
        assert (await client.command(table, {"type": "table.add_bot", "seat": 1}))["type"] == "accepted"

        player = Player(table)
        view = await player.play(client, until=lambda view: owes(view, "declaration"))
        await refuses(client, table, {"type": "declare", "value": 9}, "value_out_of_range")
        await refuses(client, table, {"type": "declare", "value": -1}, "value_out_of_range")
        await refuses(client, table, {"type": "play", "pieces": ["GENERAL_RED"]}, "wrong_phase")
        await refuses(client, table, {"type": "redeal_accept"}, "wrong_phase")
        await refuses(stranger, table, {"type": "declare", "value": 1}, "not_seated")
        await refuses(stranger, table, {"type": "table.sit"}, "already_started")
        view = await player.play(client, until=lambda view: owes(view, "turn"))
        await refuses(client, table, {"type": "play", "pieces": []}, "no_pieces")
        await refuses(client, table, {"type": "play", "pieces": ["JOKER"]}, "unknown_command")
        held = view["game"]["hand"]
        absent = next(name for name in ("GENERAL_RED", "GENERAL_BLACK", "ADVISOR_RED") if name not in held)
        required = view["game"]["required"] or 1
        await refuses(client, table, {"type": "play", "pieces": [absent] * required}, "not_in_hand")
        await refuses(client, table, {"type": "play", "pieces": [held[0]] * 8}, "wrong_count", "too_many_pieces")
        before = client.cursor(table)
        accepted = await client.command(table, choice(view))
        assert accepted["type"] == "accepted", accepted
        assert accepted["seq"] == before + 1, "a refusal leaves a trace in the log"
        await refuses(client, table, {"type": "declare", "value": 1}, "wrong_phase", "pause")


def owes(view: dict[str, Any], phase: str) -> bool:
    game = view["game"]
    return game["phase"] == phase and game["seat"] in game["awaiting"]


async def refuses(client: Client, table: str, command: dict[str, Any], *codes: str) -> None:
    verdict = await client.command(table, command)
    assert verdict["type"] == "rejected", (command, verdict)
    assert verdict["code"] in codes, (command, verdict)
    assert len(verdict["message"]) > 10
    assert verdict["table"] == table


async def test_a_flood_is_throttled_and_others_play_on(served: Gateway) -> None:
    ann, mallory = guest(served.page, "Ann"), guest(served.page, "Mallory")
    async with (
        connected(served.socket, ann["token"]) as client,
        connected(served.socket, mallory["token"]) as flooder,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        flooding = asyncio.create_task(flood(flooder, table))
        view = await Player(table).play(client, until=lambda view: view["game"]["round"] == 2)
        assert view["status"] == "running"
        with contextlib.suppress(Gone):
            await flooding
        throttled = [frame for frame in flooder.frames if frame.get("code") == "throttled"]
        assert throttled
        assert all(frame["retry_after_ms"] >= 1 for frame in throttled)
        assert {frame["type"] for frame in throttled} == {"rejected", "error"}
        # Whoever does not heed that is cut off in the end.
        with contextlib.suppress(Gone):
            while not flooder.closed:
                await flooder.send({"type": "ping"})
                await asyncio.sleep(0)
        assert await flooder.expect_close() == (4504, "flood")
        assert (await client.answer({"type": "ping", "data": 5}))["type"] in ("pong", "commit", "snapshot")


async def flood(client: Client, table: str) -> None:
    """Commands and pings until the first are throttled."""
    for number in range(2000):
        throttled = {frame["type"] for frame in client.frames if frame.get("code") == "throttled"}
        if throttled == {"rejected", "error"} or client.closed:
            return
        await client.send({"type": "command", "id": f"f-{number}", "table": table, "command": {"type": "table.leave"}})
        await client.send({"type": "ping"})
        await asyncio.sleep(0)


async def test_an_upgrade_without_a_sub_protocol_of_ours_is_refused(served: Gateway) -> None:
    for offered in (["tablecast.v9.json"], ["chat", "mqtt"]):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(served.socket, subprotocols=offered, proxy=None):
                pass
        assert refused.value.response.status_code == 400
        assert b"tablecast.v1.json" in refused.value.response.body
    async with connect(served.socket, subprotocols=["chat", "tablecast.v1.msgpack"], proxy=None) as socket:
        assert socket.subprotocol == "tablecast.v1.msgpack"


def get(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers["content-type"] or "", response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"] or "", error.read().decode()


def test_http_answers_for_operators_and_for_the_lost(served: Gateway) -> None:
    assert get(served.page + "healthz")[0] == 200
    assert get(served.page + "readyz")[0] == 200
    status, _, text = get(served.page + "metrics")
    assert status == 200
    assert "tablecast_gateway_connections" in text
    for path in ("nothing/here", "v1/nothing", "v1/tables/42/nothing", "%2e%2e/%2e%2e/etc/passwd"):
        status, content_type, text = get(served.page + path)
        assert status == 404, path
        assert content_type.startswith("application/json"), path
        assert json.loads(text)["code"], path
    assert get(served.page + "ws")[0] in (400, 426)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"name": 7}', b'{"name": ""}', b'{"name": "' + b"x" * 100_000 + b'"}', b"\xff"]
)
def test_a_guest_without_a_name_is_told_why(served: Gateway, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    status, content_type, text = get(served.page + "v1/guest", "POST", body, **headers)
    assert 400 <= status < 500, text
    assert content_type.startswith("application/json")
    assert json.loads(text)["message"]


def metric(page: str, name: str) -> float:
    lines = [line for line in get(page + "metrics")[2].splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def lines_about(program: Program, stream_seq: int) -> list[str]:
    return [line for line in program.log() if f"message {stream_seq} " in line or f"stream_seq={stream_seq}" in line]


@pytest.mark.parametrize(
    "garbage",
    [b"garbage", b"", msgpack.packb({"v": 1})],
    ids=["no-messagepack", "empty", "incomplete"],
)
async def test_a_foreign_message_among_the_commits_is_set_aside(roles: Roles, garbage: bytes) -> None:
    w1 = roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    roles.archiver()
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(gateway.socket, ann["token"]) as client,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        player = Player(table)
        await player.play(client, until=lambda view: view["game"]["turn"] == 2 and owes(view, "turn"))
        stream = nats.jetstream()
        stored = await stream.publish(f"tc.evt.{bus.SHARD_0}.{table}", garbage)
        view = await player.play(client)
        assert view["result"]["closing"] == "finished"

        [dead] = await dead_letters(stream)
        assert (dead.data or b"") == garbage
        assert str(stored.seq) in "".join((dead.headers or {}).values())
        commits = record.table(table)
        bus.assert_unbroken(commits)
        game = await poll_async(lambda: archived(roles, table), "the game is archived")
        assert game["commits"] == len(commits)
        assert game["dead_letters"] == [stored.seq]
        for program in (w1, gateway.program):
            assert len(lines_about(program, stored.seq)) == 1, program.log()
        assert metric(gateway.page, "tablecast_gateway_poison_total") == 1


async def dead_letters(stream: Any) -> list[Any]:
    info = await stream.stream_info("DEAD")
    numbers = range(info.state.first_seq, info.state.last_seq + 1)
    return [await stream.get_msg("DEAD", number) for number in numbers]


def archived(roles: Roles, table: str) -> dict[str, Any] | None:
    done = run(TABLECAST, "archive", "--store", roles.store, "get", table, "--json")
    return json.loads(done.stdout) if done.returncode == 0 else None


async def test_a_table_of_bots_survives_a_foreign_message_while_somebody_watches(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        connected(gateway.socket, ann["token"]) as client,
        connected(gateway.socket) as spectator,
    ):
        options = {"start": "when_full", "bot_delay_ms": [50, 100]}
        table = await client.open(seats=["me", "bot", "bot", "bot"], options=options)
        await spectator.subscribe(table)
        assert (await client.command(table, {"type": "table.leave"}))["type"] == "accepted"
        await nats.jetstream().publish(f"tc.evt.{bus.SHARD_0}.{table}", b"garbage")
        seq = spectator.cursor(table)
        await spectator.reaches(table, seq + 10, patience=60)


async def test_a_foreign_marker_does_not_stop_the_archiver(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    archiver = roles.archiver()
    ann = guest(gateway.page, "Ann")
    markers = {
        "no-messagepack": b"garbage",
        "incomplete": msgpack.packb({"v": 1}),
        "of-nothing": msgpack.packb(marker_of_nothing()),
    }
    async with bus.connected(roles.nats.url) as nats, connected(gateway.socket, ann["token"]) as client:
        stream = nats.jetstream()
        for garbage in markers.values():
            await stream.publish(f"tc.done.{bus.SHARD_0}.{uuid7()}", garbage)
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        await Player(table).play(client)
        game = await poll_async(lambda: archived(roles, table), "the game is archived")
    assert game["status"] == "archived"
    assert archiver.stop() == 0
    assert not [line for line in archiver.log() if "panicked" in line]


def uuid7() -> str:
    millis = int(time.time() * 1000)
    tail = uuid.uuid4().int & ((1 << 62) - 1)
    return str(uuid.UUID(int=(millis << 80) | (0x7 << 76) | (0xABC << 64) | (0b10 << 62) | tail))


def marker_of_nothing() -> dict[str, Any]:
    """A marker as a worker writes it, of a table that never was, on the subject of yet another one."""
    summary = {
        "closing": "finished",
        "players": [],
        "winners": [],
        "scores": [],
        "started_at": None,
        "ended_at": int(time.time() * 1000),
    }
    return {"v": 1, "table": UNKNOWN, "kind": "liap-tui", "rules": 1, "last_seq": 3, "last": 3, "summary": summary}


async def test_garbage_among_requests_is_refused(roles: Roles) -> None:
    worker = roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    ann = guest(gateway.page, "Ann")
    async with bus.connected(roles.nats.url) as nats, connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        requests = {f"tc.cmd.{table}": "rejected", "tc.open.liap-tui": "rejected", "tc.adopt.liap-tui": "declined"}
        for subject, refusal in requests.items():
            for garbage in (b"garbage", b"", msgpack.packb({"v": 1, "body": {}}), msgpack.packb({"v": 99, "body": {}})):
                answer = msgpack.unpackb((await nats.request(subject, garbage, timeout=5)).data)
                assert (answer["body"]["type"], answer["body"]["code"]) == (refusal, "malformed"), subject
        for subject in (f"tc.seat.{table}", "tc.beat.w1", "tc.beat.x", "$KV.tc_lobby.x", f"tc.live.{bus.SHARD_0}.{table}"):
            await nats.publish(subject, b"garbage")
        await nats.flush()
        view = await Player(table).play(client)
        assert view["result"]["closing"] == "finished"
        lobby = await client.answer({"type": "watch_lobby"})
        assert lobby["type"] == "lobby"
    assert tablecast("tables", "--nats-url", roles.nats.url, "ls", "--json") is not None
    for program in (worker, gateway.program):
        assert program.process.poll() is None
        assert not [line for line in program.log() if "panicked" in line]
