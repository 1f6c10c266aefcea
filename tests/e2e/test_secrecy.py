"""What a viewer may not know is in no frame of a whole game: live, as view, after a resume, in both formats."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import bus
from conftest import UNTHROTTLED, Roles
from players import Client, Frame, Gone, Player, connected, guest

FACE = {"pieces", "play_type", "strength"}


@dataclass
class Watched:
    """What came over one connection, and whose eyes it was for."""

    seat: int | None
    client: Client


async def test_no_frame_tells_what_its_viewer_may_not_know(roles: Roles) -> None:
    roles.worker("the-worker-s-name")
    near, far = roles.gateway(*UNTHROTTLED), roles.gateway(*UNTHROTTLED)
    ann, bob = guest(near.page, "Ann"), guest(far.page, "Bob")
    watched: list[Watched] = []
    async with (
        bus.connected(roles.nats.url) as nats,
        bus.recording(nats) as record,
        connected(near.socket, ann["token"]) as ann_client,
        connected(far.socket, bob["token"], "msgpack") as bob_client,
        connected(near.socket, ann["token"], "msgpack") as ann_by_events,
        connected(far.socket, bob["token"]) as bob_by_events,
        connected(near.socket, wire_format="msgpack") as spectator_by_views,
        connected(far.socket) as spectator_by_events,
    ):
        await spectator_by_events.send({"type": "watch_lobby"})
        # Bob sits in the last seat: what a commit shows to one seat must not depend on its number.
        table = await ann_client.open(seats=["me", "bot", "bot", "open"])
        assert (await bob_client.command(table, {"type": "table.sit", "seat": 3}))["type"] == "accepted"
        for seat, client, deliver in (
            (0, ann_client, "views"),
            (3, bob_client, "views"),
            (0, ann_by_events, "events"),
            (3, bob_by_events, "events"),
            (None, spectator_by_views, "views"),
            (None, spectator_by_events, "events"),
        ):
            assert (await client.subscribe(table, deliver=deliver))["seat"] == seat
            watched.append(Watched(seat, client))
        resuming = asyncio.create_task(resume_again_and_again(far.socket, bob["token"], table, watched))
        await asyncio.gather(Player(table).play(ann_client), Player(table).play(bob_client))
        last = ann_client.cursor(table)
        await bus.settled(record)
        resuming.cancel()
        await asyncio.gather(resuming, return_exceptions=True)
        for one in watched[:6]:
            await one.client.reaches(table, last)

    truth = Truth(record.table(table))
    others = {0: bob["player"], 3: ann["player"], None: ann["player"]}
    for one in watched:
        for frame, raw in zip(one.client.frames, one.client.wire, strict=True):
            assert others[one.seat].encode() not in raw, "another player's id"
            assert b"the-worker-s-name" not in raw
            truth.check(frame, one.seat)
    assert truth.faces_checked > 100
    assert truth.hands_checked > 100


async def resume_again_and_again(socket_url: str, bob: str, table: str, watched: list[Watched]) -> None:
    """Comes back with an old cursor, with none, and as a player, as long as the game goes on."""
    for token, seat, behind in [(None, None, 5), (bob, 3, 5), (None, None, 40), (bob, 3, 40), (bob, 3, None)] * 40:
        async with connected(socket_url, token, "json" if behind == 5 else "msgpack") as client:
            watched.append(Watched(seat, client))
            newest = max(one.client.cursor(table) for one in watched)
            cursor = None if behind is None else max(0, newest - behind)
            await client.subscribe(table, cursor)
            await client.wait_for(lambda frame: frame["type"] in ("commit", "snapshot"), "anything")


class Truth:
    """The game as the log has it, to hold frames against."""

    def __init__(self, commits: list[bus.Stored]):
        bus.assert_unbroken(commits)
        self.faces_checked = 0
        self.hands_checked = 0
        # By `seq`: the hands, and the number of plays that lie face down.
        self._hands: dict[int, list[list[str]]] = {}
        self._events = {stored.seq: stored.events for stored in commits}
        hands: list[list[str]] = [[], [], [], []]
        for stored in commits:
            for event in stored.events:
                if event["type"] == "pieces_dealt":
                    hands = [list(hand) for hand in event["hands"]]
                elif event["type"] == "pieces_played":
                    hands = [list(hand) for hand in hands]
                    for piece in event["pieces"]:
                        hands[event["seat"]].remove(piece)
            self._hands[stored.seq] = hands

    def check(self, frame: Frame, seat: int | None) -> None:
        if frame["type"] == "commit":
            # Which process owns the table is nobody's business.
            facts = [fact for fact in self._events[frame["seq"]] if fact["type"] != "table.claimed"]
            for event, fact in zip(frame["events"], facts, strict=True):
                self._check_event(event, fact, seat)
        elif frame["type"] == "snapshot":
            self._check_view(frame["view"], frame["seq"], seat)

    def _check_event(self, event: dict[str, Any], fact: dict[str, Any], seat: int | None) -> None:
        assert event["type"] == fact["type"]
        assert "hands" not in event, event
        is_own = seat is not None and event.get("seat") == seat
        match event["type"]:
            case "pieces_dealt":
                own = {"hand": fact["hands"][seat]} if seat is not None else {}
                sizes = [len(hand) for hand in fact["hands"]]
                assert event == {
                    "type": "pieces_dealt",
                    "round": fact["round"],
                    "deal": fact["deal"],
                    "hand_sizes": sizes,
                } | own
                self.hands_checked += 1
            case "pieces_played":
                self._check_play({key: event[key] for key in event.keys() - {"type"}}, is_own)
            case "redeal_decision_made":
                assert is_own or event.keys() == {"type", "seat"}, event
            case "table.opened" | "table.seat_taken" | "table.completed":
                assert '"player"' not in json.dumps(event), event
            case _:
                # Everyone's: whatever else it holds is in the log's own event.
                assert event == fact

    def _check_play(self, play: dict[str, Any], is_own: bool) -> None:
        assert play.keys() == {"seat", "count"} | (FACE if is_own else set()), play
        self.faces_checked += 1

    def _check_view(self, view: dict[str, Any], seq: int, seat: int | None) -> None:
        game, hands = view["game"], self._hands[seq]
        assert (view["you"], game["seat"]) == (seat, seat)
        assert game["hand_sizes"] == [len(hand) for hand in hands]
        if seat is None:
            assert game["hand"] is None
        else:
            assert sorted(game["hand"]) == sorted(hands[seat])
            self.hands_checked += 1
        for play in game["plays"]:
            self._check_play(play, is_own=play["seat"] == seat and seat is not None)
        if game["redeal"] is not None and (seat is None or seat not in game["redeal"]["decided"]):
            assert game["redeal"]["own_decision"] is None
