"""Playing again: over WebSocket with the roles apart, with a worker that dies at the worst moment, and in a browser."""

import asyncio
import json
import signal

from conftest import UNTHROTTLED, Gateway, Roles
from players import Client, Frame, connected, guest
from playwright.sync_api import expect
from programs import PATIENCE, TABLECAST, poll_async, run
from test_chess import errors_of, open_for_two

AGAIN = {"type": "table.rematch"}


def has(event: str):
    return lambda frame: frame["type"] == "commit" and any(one["type"] == event for one in frame["events"])


async def played_out(gateway: Gateway, ann: Client, bob: Client) -> str:
    """A table of chess whose game is over: Bob has resigned."""
    options = {"start": "when_full", "rematch_ms": 30_000}
    table = await ann.open(kind="chess", setup={}, seats=["me", "open"], options=options)
    for client in (ann, bob):
        await client.subscribe(table)
    for command in ({"type": "table.sit"}, {"type": "resign"}):
        verdict = await bob.command(table, command)
        assert verdict["type"] == "accepted", verdict
    is_offer = has("table.rematch_offered")
    offered = await ann.wait_for(lambda frame: is_offer(frame) and frame["table"] == table, "the offer of a rematch")
    assert offered["events"][-1]["until"] > offered["at"]
    return table


async def subscribed(client: Client, table: str) -> Frame:
    """Follows a table that is about to be there; its snapshot."""

    async def look() -> Frame | None:
        after = len(client.frames)
        await client.send({"type": "subscribe", "table": table})
        mine = lambda frame: frame["type"] in ("snapshot", "unsubscribed") and frame["table"] == table  # noqa: E731
        answer = await client.wait_for(mine, "answer to subscribe", after)
        if answer["type"] == "snapshot":
            return answer
        assert answer["reason"] == "unknown_table", answer
        return None

    deadline = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        if snapshot := await look():
            return snapshot
        await asyncio.sleep(0.5)
    raise AssertionError(f"{table} is not opened")


async def move(client: Client, table: str) -> None:
    verdict = await client.command(table, {"type": "move", "san": "e4"})
    assert verdict["type"] == "accepted", verdict


async def archived(roles: Roles, table: str) -> list[str]:
    """The event types of a table as the archive has it, once it does."""

    def look() -> list[str] | None:
        done = run(TABLECAST, "archive", "--store", roles.store, "get", table, "--json")
        return [event["type"] for event in json.loads(done.stdout)["events"]] if done.returncode == 0 else None

    return await poll_async(look, f"{table} is archived")


async def test_two_players_agree_and_play_on_at_the_next_table(roles: Roles) -> None:
    roles.worker("w1")
    gateway = roles.gateway(*UNTHROTTLED)
    roles.archiver()
    async with (
        connected(gateway.socket, guest(gateway.page, "Ann")["token"]) as ann,
        connected(gateway.socket, guest(gateway.page, "Bob")["token"]) as bob,
        connected(gateway.socket) as spectator,
    ):
        table = await played_out(gateway, ann, bob)
        refused = await ann.command(table, {"type": "move", "san": "e4"})
        assert refused["code"] == "game_over"
        after = len(spectator.frames)
        await spectator.subscribe(table)
        view = (await spectator.expect("snapshot", after))["view"]
        assert (view["status"], view["result"]["winners"], view["rematch"]["wanted"]) == ("running", [0], [])

        assert (await bob.command(table, AGAIN))["type"] == "accepted"
        await ann.wait_for(has("table.rematch_wanted"), "Bob's wish")
        assert (await ann.command(table, AGAIN))["type"] == "accepted"
        succeeded = await bob.wait_for(has("table.succeeded"), "the next table")
        assert [event["type"] for event in succeeded["events"]][1:] == ["table.succeeded", "table.completed"]
        successor = succeeded["events"][1]["table"]

        views = [(await subscribed(client, successor))["view"] for client in (ann, bob, spectator)]
        assert [view["you"] for view in views] == [0, 1, None]
        assert [seat["name"] for seat in views[0]["seats"]] == ["Ann", "Bob"]
        assert views[0]["status"] == "running"
        # A spectator learns of it like the players: live, and by a snapshot of the finished table.
        live = await spectator.wait_for(has("table.succeeded"), "the next table")
        assert live["events"][1]["table"] == successor
        await move(ann, successor)
        await bob.wait_for(lambda frame: frame["type"] == "commit" and frame["table"] == successor, "the first move")
        assert (await ann.command(table, AGAIN))["code"] in ("no_rematch", "game_over", "archived")

        types = await archived(roles, table)
        assert types[-2:] == ["table.succeeded", "table.completed"]


async def test_wherever_the_worker_dies_there_is_one_next_table(roles: Roles) -> None:
    gateway = roles.gateway(*UNTHROTTLED)
    roles.archiver()
    worker = roles.worker("w0")
    async with (
        connected(gateway.socket, guest(gateway.page, "Ann")["token"]) as ann,
        connected(gateway.socket, guest(gateway.page, "Bob")["token"]) as bob,
    ):
        for number, delay_ms in enumerate((0.5, 1, 1.5, 2, 3, 4, 6, 9), start=1):
            table = await played_out(gateway, ann, bob)
            assert (await bob.command(table, AGAIN))["type"] == "accepted"
            following = roles.worker(f"w{number}")
            wish = asyncio.create_task(ann.command(table, AGAIN))
            # Before the last wish is in the log, or after that: then the next table, the marker, or both are missing.
            await asyncio.sleep(delay_ms / 1000)
            worker.process.send_signal(signal.SIGKILL)
            worker = following
            verdict = await wish
            assert verdict["type"] == "accepted", verdict
            named = lambda frame, table=table: has("table.succeeded")(frame) and frame["table"] == table  # noqa: E731
            succeeded = await bob.wait_for(named, "the next table")
            successor = next(event["table"] for event in succeeded["events"] if "table" in event)
            for client in (ann, bob):
                await subscribed(client, successor)
            await move(ann, successor)
            types = await archived(roles, table)
            assert types[-2:] == ["table.succeeded", "table.completed"]
            assert types.count("table.succeeded") == 1
            assert (await bob.command(successor, {"type": "resign"}))["type"] == "accepted"
            for client in (ann, bob):
                await client.command(successor, {"type": "table.leave"})
            assert (await archived(roles, successor)).count("table.opened") == 1


def test_players_are_led_to_the_next_game_and_a_spectator_may_follow(page_url, new_context) -> None:
    white, black, spectator = (new_context().new_page() for _ in range(3))
    errors = errors_of(white), errors_of(black)
    open_for_two(page_url, white, black)
    spectator.goto(white.url)
    table = white.url
    for _ in range(2):
        white.get_by_test_id("resign").click()
    for page in (white, black, spectator):
        expect(page.get_by_test_id("rematch-bar")).to_be_visible()
        expect(page.get_by_test_id("reason")).to_have_text("Resignation.")
    assert spectator.get_by_test_id("rematch").count() == 0

    black.get_by_test_id("rematch").click()
    expect(white.get_by_test_id("rematch-bar")).to_contain_text("wants to play again")
    white.get_by_test_id("rematch").click()
    for page in (white, black):
        expect(page.get_by_test_id("table")).to_have_attribute("data-phase", "playing")
        assert page.url != table
    assert white.url == black.url
    spectator.get_by_test_id("successor").click()
    expect(spectator.get_by_test_id("table")).to_have_attribute("data-phase", "playing")
    assert spectator.url == white.url
    assert errors == ([], [])
