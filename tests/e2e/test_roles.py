"""The roles apart: any number of each, over two gateways, and with one of them killed in mid-game."""

import asyncio
import json
import signal
from typing import Any

import bus
import msgpack
import pytest
from conftest import UNTHROTTLED, Roles
from players import Frame, Gone, Player, assert_continuous, connected, guest
from programs import NATS_SERVER, PATIENCE, TABLECAST, Programs, free_port, poll, poll_async, run, tablecast


async def archived(roles: Roles, table: str) -> dict[str, Any]:
    """A table as the archive has it, once it does."""

    def look() -> dict[str, Any] | None:
        done = run(TABLECAST, "archive", "--store", roles.store, "get", table, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    return await poll_async(look, f"{table} is archived")


def tables(roles: Roles, *arguments: str) -> list[Any]:
    """What `tablecast tables` prints for programs."""
    text = tablecast("tables", "--nats-url", roles.nats.url, *arguments, "--json")
    return [json.loads(line) for line in text.splitlines()]


def connections(roles: Roles, *arguments: str) -> list[Any]:
    """What `tablecast connections` prints for programs."""
    text = tablecast("connections", "--nats-url", roles.nats.url, *arguments, "--json")
    return [json.loads(line) for line in text.splitlines()]


async def test_two_players_and_two_spectators_over_two_gateways(roles: Roles) -> None:
    roles.worker("w1")
    roles.worker("w2")
    near, far = roles.gateway(*UNTHROTTLED), roles.gateway(*UNTHROTTLED)
    archiver = roles.archiver()
    ann, bob = guest(near.page, "Ann"), guest(far.page, "Bob")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(near.socket, ann["token"]) as ann_client,
        connected(far.socket, bob["token"], "msgpack") as bob_client,
        connected(far.socket) as spectator,
        connected(near.socket, wire_format="msgpack") as other_spectator,
    ):
        await spectator.send({"type": "watch_lobby"})
        table = await ann_client.open(seats=["me", "open", "bot", "bot"])
        await spectator.wait_for(lambda frame: lists(frame, table, "waiting"), "the open table in the list")
        [line] = tables(roles, "ls")
        assert (line["table"], line["kind"], line["status"]) == (table, "liap-tui", "waiting")
        assert [seat["name"] for seat in line["seats"]][:2] == ["Ann", ""]

        subscribed = await spectator.subscribe(table)
        assert (subscribed["kind"], subscribed["seat"]) == ("liap-tui", None)
        await other_spectator.subscribe(table)
        assert (await ann_client.subscribe(table, deliver="views"))["seat"] == 0
        await bob_client.subscribe(table, deliver="views")
        sat = await bob_client.command(table, {"type": "table.sit"})
        assert sat["type"] == "accepted", sat
        await bob_client.wait_for(
            lambda frame: frame["type"] == "subscribed" and frame["seat"] == 1, "the seat's own view"
        )

        ann_plays, bob_plays = Player(table), Player(table)
        last_view, _ = await asyncio.gather(ann_plays.play(ann_client), bob_plays.play(bob_client))
        last = ann_client.cursor(table)
        for client in (bob_client, spectator, other_spectator):
            await client.reaches(table, last)
        await spectator.wait_for(
            lambda frame: frame["type"] == "lobby" and not frame["tables"], "the table gone from the list"
        )

    for client in (ann_client, bob_client, spectator, other_spectator):
        assert assert_continuous(client.of_table(table)) == last
    commits = record.table(table)
    bus.assert_unbroken(commits)
    assert len(commits) == last
    assert_in_log_once(commits, ann_plays, ann["player"])
    assert_in_log_once(commits, bob_plays, bob["player"])

    game = await archived(roles, table)
    end = record.ends()[table]
    assert (game["winners"], game["scores"]) == (end["winners"], end["totals"])
    assert last_view["result"] == {
        "closing": "finished",
        "winners": end["winners"],
        "scores": end["totals"],
        "ended_at": game["ended_at"],
    }
    assert [player["player"] for player in game["players"]] == [ann["player"], bob["player"], None, None]
    assert sorted({event["seq"] for event in game["events"]}) == list(range(1, last + 1))
    assert archiver.stop() == 0


def lists(frame: Frame, table: str, status: str) -> bool:
    return frame["type"] == "lobby" and (table, status) in [
        (line["table"], line["status"]) for line in frame["tables"]
    ]


def assert_in_log_once(commits: list[bus.Stored], player: Player, player_id: str) -> None:
    """Every accepted command is in the log, in the commit that its answer named, and in no other."""
    in_log = [
        (stored.cause["id"], stored.seq)
        for stored in commits
        if stored.cause["type"] == "command" and stored.cause["player"] == player_id
    ]
    assert len(in_log) == len(dict(in_log)), "a command is in the log twice"
    assert player.accepted
    missing = player.accepted.items() - set(in_log)
    assert not missing, f"accepted, and not in the log: {missing}"


async def test_an_operator_sees_a_table_and_an_archived_game(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    roles.archiver()
    ann = guest(gateway.page, "Ann")
    tail = None
    async with connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        tail = roles.programs.tablecast("tables", "--nats-url", roles.nats.url, "tail", table, "--json")
        await client.subscribe(table, deliver="views")
        player = Player(table)
        await player.play(client, until=lambda view: view["game"]["phase"] == "turn")

        [as_spectator] = tables(roles, "show", table)
        assert as_spectator["view"]["game"]["hand"] is None
        [as_seat] = tables(roles, "show", table, "--seat", "0")
        assert len(as_seat["view"]["game"]["hand"]) == 8
        everything = tables(roles, "show", table, "--secrets")
        assert [commit["seq"] for commit in everything] == list(range(1, len(everything) + 1))
        assert ann["player"] in json.dumps(everything)
        assert ann["player"] not in json.dumps([as_spectator, as_seat])
        for_people = tablecast("tables", "--nats-url", roles.nats.url, "ls").splitlines()
        assert for_people[0].split() == ["TABLE", "KIND", "STATUS", "SEATS"]
        assert for_people[1].startswith(table)
        assert "Ann" in for_people[1]
        assert "Ann" in tablecast("tables", "--nats-url", roles.nats.url, "show", table)

        await player.play(client)
        last = client.cursor(table)
    game = await archived(roles, table)

    shown = await poll_async(lambda: (lines := tail.out()) and len(lines) >= last and lines, "the tail shows all")
    assert [json.loads(line)["seq"] for line in shown] == list(range(1, last + 1))
    assert ann["player"] not in "\n".join(shown)
    assert tail.process.poll() is not None or tail.stop() == 0

    [listed] = [json.loads(line) for line in tablecast("archive", "--store", roles.store, "ls", "--json").splitlines()]
    assert listed["table_id"] == table
    assert listed["commits"] == game["commits"] == last
    head, row = tablecast("archive", "--store", roles.store, "ls").splitlines()
    assert head.startswith("TABLE")
    assert row.startswith(table)
    assert "Ann" in tablecast("archive", "--store", roles.store, "get", table)

    gone = run(TABLECAST, "tables", "--nats-url", roles.nats.url, "show", table)
    assert gone.returncode == 1
    assert "archive" in gone.stderr
    for command in (("tables", "--nats-url", roles.nats.url, "show"), ("archive", "--store", roles.store, "get")):
        unknown = run(TABLECAST, *command, "019ab3c4-5d6e-7f80-9123-456789abcdef")
        assert unknown.returncode == 1
        assert "019ab3c4-5d6e-7f80-9123-456789abcdef" in unknown.stderr
        assert run(TABLECAST, *command, "42").returncode == 2


async def test_a_worker_is_killed_in_mid_game(roles: Roles) -> None:
    owner = roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    roles.archiver()
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(gateway.socket, ann["token"]) as client,
        connected(gateway.socket) as spectator,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        roles.worker("w2")
        await spectator.subscribe(table)
        await client.subscribe(table, deliver="views")
        player = Player(table)
        await heard(nats, "w1")
        playing = asyncio.create_task(player.play(client))
        await poll_async(lambda: len(player.accepted) >= 10 or playing.done(), "ten moves are played")
        assert not playing.done()
        owner.kill()
        view = await playing
        assert view["result"]["closing"] == "finished"
        last = client.cursor(table)
        await spectator.reaches(table, last)

        # As a client does that has not seen the first answer.
        (command_id, seq), *_ = list(player.accepted.items())[-3:]
        again = await client.command(table, {"type": "declare", "value": 0}, command_id)
    commits = record.table(table)
    bus.assert_unbroken(commits)
    assert {stored.worker for stored in commits} == {"w1", "w2"}
    [claim] = [stored for stored in commits if stored.cause["type"] == "claim"]
    assert claim.events == [{"type": "table.claimed", "worker": "w2"}]
    assert_in_log_once(commits, player, ann["player"])
    assert assert_continuous(spectator.of_table(table)) == last
    assert (again["type"], again.get("seq")) == ("accepted", seq), again
    game = await archived(roles, table)
    assert game["commits"] == last


async def test_a_worker_that_hangs_loses_its_tables_and_does_no_harm_when_it_wakes(roles: Roles) -> None:
    owner = roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(gateway.socket, ann["token"]) as client,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        player = Player(table)
        await heard(nats, "w1")
        await player.play(client, until=is_awaited)
        roles.worker("w2")
        owner.process.send_signal(signal.SIGSTOP)
        moves = len(player.accepted)
        await player.play(client, until=lambda view: is_awaited(view) and len(player.accepted) >= moves + 4)
        owner.process.send_signal(signal.SIGCONT)
        view = await player.play(client)
        assert view["result"]["closing"] == "finished"
    commits = record.table(table)
    bus.assert_unbroken(commits)
    assert_in_log_once(commits, player, ann["player"])
    [claim] = [stored for stored in commits if stored.cause["type"] == "claim"]
    assert {stored.worker for stored in commits if stored.seq >= claim.seq} == {"w2"}


async def heard(nats: Any, worker: str) -> None:
    """Returns once the worker has said again that it is alive, so that gateways know of it."""
    subscription = await nats.subscribe(f"tc.beat.{worker}")
    await subscription.next_msg(timeout=PATIENCE)
    await subscription.unsubscribe()


async def test_a_table_of_bots_whose_worker_dies_unheard_goes_on_while_somebody_watches(roles: Roles) -> None:
    owner = roles.worker("w1")
    gateway = roles.gateway()
    ann = guest(gateway.page, "Ann")
    async with connected(gateway.socket, ann["token"]) as client, connected(gateway.socket) as spectator:
        # Bots that take their time, so that the game is not over before its worker is.
        table = await client.open(seats=["me", "bot", "bot", "bot"], options={"start": "when_full", "abandon_ms": 600_000})
        await spectator.subscribe(table)
        roles.worker("w2")
        assert (await client.command(table, {"type": "table.leave"}))["type"] == "accepted"
        owner.kill()
        seq = spectator.cursor(table)
        await spectator.reaches(table, seq + 5, patience=60)


async def test_a_table_that_has_an_owner_is_not_taken_from_it(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(gateway.socket, ann["token"]) as client,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        player = Player(table)
        await player.play(client, until=is_awaited)
        for name in ("w2", "w3"):
            roles.worker(name)
        # What a gateway asks that has not heard of the table for a while, whoever answers.
        request = msgpack.packb({"v": 1, "body": {"table": table}})
        for _ in range(20):
            answer = msgpack.unpackb((await nats.request("tc.adopt.liap-tui", request, timeout=5)).data)
            assert answer["body"]["type"] == "owned", answer
        await player.play(client)
    assert {stored.worker for stored in record.table(table)} == {"w1"}


async def test_a_gateway_is_killed_in_mid_game(roles: Roles) -> None:
    roles.worker("w1")
    first, second = roles.gateway(*UNTHROTTLED), roles.gateway(*UNTHROTTLED)
    ann = guest(first.page, "Ann")
    frames: list[Frame] = []
    async with bus.connected(roles.nats.url) as nats, bus.recording(nats) as record:
        async with connected(first.socket, ann["token"]) as client, connected(first.socket) as spectator:
            table = await client.open(seats=["me", "bot", "bot", "bot"])
            await spectator.subscribe(table)
            await client.subscribe(table, deliver="views")
            player = Player(table)
            playing = asyncio.create_task(player.play(client))
            await poll_async(lambda: len(player.accepted) >= 10 or playing.done(), "ten moves are played")
            first.program.kill()
            with pytest.raises(Gone):
                await playing
            await spectator.expect_close()
            frames += spectator.of_table(table)
            cursor = spectator.cursor(table)
        async with connected(second.socket, ann["token"]) as client, connected(second.socket) as spectator:
            await spectator.subscribe(table, cursor)
            assert (await client.subscribe(table, deliver="views"))["seat"] == 0
            view = await player.play(client)
            assert view["result"]["closing"] == "finished"
            last = client.cursor(table)
            await spectator.reaches(table, last)
            frames += spectator.of_table(table)
    assert assert_continuous(frames) == last
    commits = record.table(table)
    bus.assert_unbroken(commits)
    assert_in_log_once(commits, player, ann["player"])


async def test_a_player_of_a_killed_gateway_does_not_hold_the_table_up(roles: Roles) -> None:
    roles.worker("w1")
    first, second = roles.gateway(*UNTHROTTLED), roles.gateway(*UNTHROTTLED)
    ann = guest(first.page, "Ann")
    async with connected(second.socket) as spectator:
        async with connected(first.socket, ann["token"]) as client:
            table = await client.open(seats=["me", "bot", "bot", "bot"])
            await spectator.subscribe(table)
            await client.subscribe(table, deliver="views")
            await Player(table).play(client, until=is_awaited)
            first.program.kill()
        await spectator.wait_for(
            lambda frame: has_event(frame, "table.seat_taken_by_bot"), "a bot that plays on", patience=60
        )


def is_awaited(view: Frame) -> bool:
    return view["game"]["seat"] in view["game"]["awaiting"]


def has_event(frame: Frame, event_type: str) -> bool:
    return frame["type"] == "commit" and any(event["type"] == event_type for event in frame["events"])


async def test_a_cursor_brings_exactly_the_missing_commits(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    ann = guest(gateway.page, "Ann")
    async with connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        async with connected(gateway.socket) as spectator:
            await spectator.subscribe(table)
            cursor = client.cursor(table)
            await spectator.reaches(table, cursor)
            cursor = spectator.cursor(table)
        player = Player(table)
        # Nothing more happens until we move.
        await player.play(client, until=lambda view: view["game"]["turn"] >= 2 and is_awaited(view))
        for wire_format in ("json", "msgpack"):
            last = client.cursor(table)
            async with connected(gateway.socket, wire_format=wire_format) as spectator:
                subscribed = await spectator.subscribe(table, cursor)
                assert subscribed["recovered"]
                assert subscribed["seq"] == last
                await spectator.reaches(table, last)
                seqs = [frame["seq"] for frame in spectator.of_table(table)[1:]]
                assert seqs == list(range(cursor + 1, last + 1))
                assert {frame["type"] for frame in spectator.of_table(table)[1:]} == {"commit"}

        async with connected(gateway.socket) as spectator:
            up_to_date = await spectator.subscribe(table, last)
            assert up_to_date["recovered"]
            from_the_future = await spectator.subscribe(table, last + 1000)
            assert not from_the_future["recovered"]
            await spectator.expect("snapshot")


async def test_a_table_too_fast_for_a_viewer_is_conflated_and_never_short(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    slow = roles.gateway("--outbound-table-rate", "5", "--outbound-table-burst", "5")
    ann = guest(gateway.page, "Ann")
    async with (
        connected(gateway.socket, ann["token"]) as client,
        connected(slow.socket) as by_events,
        connected(slow.socket, wire_format="msgpack") as by_views,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        await by_events.subscribe(table)
        await by_views.subscribe(table, deliver="views")
        await Player(table).play(client)
        last = client.cursor(table)
        for viewer in (by_events, by_views):
            await viewer.reaches(table, last)
            frames = viewer.of_table(table)
            assert assert_continuous(frames) == last
            commits = [frame for frame in frames if frame["type"] == "commit"]
            assert len(commits) < last / 2, "nothing was conflated"
        lines = connections(roles)
        assert sorted(line["connections"] for line in lines if line["type"] == "gateway") == [1, 2]
        viewers = [line for line in lines if line["type"] == "connection" and line["conflated"] > 0]
        assert len({line["gateway"] for line in viewers}) == 1
        assert [(line["tables"], line["player"], line["address"]) for line in viewers] == [(1, None, "127.0.0.1")] * 2
        assert all(line["throttled_out"] > 0 for line in viewers)
        [line, *_] = connections(roles, "--player", ann["player"])
        assert (line["type"], line["player"], line["why"]) == ("connection", ann["player"], None)
        head, *rows = tablecast("connections", "--nats-url", roles.nats.url).splitlines()
        assert head.split()[:3] == ["GATEWAY", "CONNECTION", "PLAYER"]
        assert sum(row.startswith(viewers[0]["gateway"]) for row in rows) == 3, "two connections and a sum"
        assert by_views.of_table(table)[-1]["view"]["status"] == "ended"


async def test_roles_stop_when_the_server_is_gone(roles: Roles) -> None:
    worker, archiver = roles.worker("w1"), roles.archiver()
    gateway = roles.gateway()
    ann = guest(gateway.page, "Ann")
    async with connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        await Player(table).play(client, until=is_awaited)
        await poll_async(lambda: any("archiving to" in line for line in archiver.log()), "the archiver archives")
        roles.nats.program.kill()
        for program in (gateway.program, archiver, worker):
            program.process.send_signal(signal.SIGTERM)
        for program in (gateway.program, archiver, worker):
            assert program.wait(15) in (0, 1), program.log()[-5:]


async def test_a_request_is_found_again_from_the_socket_to_the_log(roles: Roles) -> None:
    roles.worker("w1", "--log", "tablecast=debug")
    gateway = roles.gateway()
    ann = guest(gateway.page, "Ann")
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(gateway.socket, ann["token"], headers={"X-Request-Id": "support-case-7"}) as client,
    ):
        table = await client.open(seats=["me", "bot", "bot", "bot"], options={"start": "host"})
        started = await client.command(table, {"type": "table.start"})
        assert started["type"] == "accepted", started
        await poll_async(lambda: len(record.messages) >= 2, "opening and start are in the log")
    answering = [message.headers or {} for message in record.messages if "Tc-Command" in (message.headers or {})]
    assert {headers.get("Tc-Request") for headers in answering} == {"support-case-7"}
    assert any("support-case-7" in line for line in roles.workers["w1"].log())


async def test_a_tail_that_is_stopped_has_not_failed(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway()
    ann = guest(gateway.page, "Ann")
    async with connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"], options={"start": "host"})
    # Several, since the order in which a process learns of its end is a matter of chance.
    tails = [roles.programs.tablecast("tables", "--nats-url", roles.nats.url, "tail", table) for _ in range(12)]
    for tail in tails:
        await poll_async(tail.out, "the tail shows the opening")
        assert tail.stop() == 0, tail.log()
        assert not tail.errors()


def test_a_role_that_still_waits_for_the_server_stops(programs: Programs) -> None:
    nowhere = ("--nats-url", f"nats://127.0.0.1:{free_port()}", "--nats-wait", "10m")
    waiting = [programs.tablecast("worker", *nowhere), programs.tablecast("archiver", *nowhere, "--store", "archive")]
    for program in waiting:
        poll(lambda: any("waiting for a NATS server" in line for line in program.log()), "it waits")
        assert program.stop(15) == 0, program.log()[-5:]


async def test_a_clean_stop_hands_over_and_tells_clients_to_come_back(roles: Roles) -> None:
    owner = roles.worker("w1")
    gateway = roles.gateway()
    ann = guest(gateway.page, "Ann")
    async with connected(gateway.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"], options={"start": "host"})
        await client.subscribe(table)
        roles.worker("w2")
        assert owner.stop(10) == 0
        started = await client.command(table, {"type": "table.start"})
        assert started["type"] == "accepted", started
        gateway.program.process.send_signal(signal.SIGTERM)
        assert await client.expect_close() == (4000, "restart")
    assert gateway.program.wait(10) == 0


def test_the_measurement_of_a_recovery_measures() -> None:
    """A few tables only: what the figures are is for a release build to say."""
    command = ("bench", "recovery", "--tables", "20", "--json", "--nats-server", NATS_SERVER)
    done = run(TABLECAST, "--log", "warn", *command, patience=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tables"] == 20
    assert report["durability"] == "dev"
    assert 0 < report["watched_seconds"] < 30
    assert 0 < report["played_seconds"] < 30
