"""The web page in a real browser, against a real server."""

import json
import re
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect

GAME_MS = 600_000
ACTIONS_MAX = 3_000
TABS_MAX = 120

# Something is due from this player, or the game is over.
DUE = """() => document.querySelector('[data-testid=game-over]')
    || document.querySelector('[data-testid=redeal-accept]:enabled')
    || document.querySelector('[data-testid^=declare-]:enabled')
    || (document.querySelector('[data-testid=prompt].mine') && document.querySelector('[data-testid=play]'))"""


def part(page: Page, name: str) -> Locator:
    return page.get_by_test_id(name)


def seq(page: Page) -> int:
    return int(part(page, "table").get_attribute("data-seq") or 0)


def wait_for_seq(page: Page, least: int) -> None:
    page.wait_for_function(
        "least => Number(document.querySelector('[data-testid=table]')?.dataset.seq) >= least",
        arg=least,
    )


def totals(page: Page) -> list[int]:
    cells = part(page, "scoreboard").locator("[data-total]").all()
    by_seat = {int(cell.get_attribute("data-total")): int(cell.inner_text()) for cell in cells}
    return [by_seat[seat] for seat in range(4)]


def start_game(page: Page, url: str) -> None:
    page.goto(url)
    part(page, "new-game").click()
    page.wait_for_url(re.compile(r"/t/[0-9a-f-]{36}$"))
    expect(part(page, "table")).to_have_attribute("data-status", "running")


def act(page: Page) -> None:
    """Does the next thing that the page offers, with the mouse."""
    if part(page, "redeal-decline").count():
        part(page, "redeal-decline").click()
        expect(part(page, "redeal-decline")).to_have_count(0)
        return
    numbers = page.locator("[data-testid^=declare-]:enabled")
    if numbers.count():
        numbers.nth(min(1, numbers.count() - 1)).click()
        expect(numbers).to_have_count(0)
        return
    pieces = part(page, "hand-piece")
    size = pieces.count()
    # The first piece is a lead; a follower needs as many as the leader played.
    for place in range(size):
        pieces.nth(place).click()
        expect(pieces.nth(place)).to_have_attribute("aria-pressed", "true")
        if part(page, "play").is_enabled():
            break
    part(page, "play").click()
    expect(part(page, "hand-piece")).not_to_have_count(size)


class Wire:
    """Every frame that a page receives."""

    def __init__(self, page: Page) -> None:
        self.frames: list[dict] = []
        page.on("websocket", lambda socket: socket.on("framereceived", self.take))

    def take(self, payload: str | bytes) -> None:
        self.frames.append(json.loads(payload))

    def check_nothing_hidden(self) -> None:
        """No hand, and no face of a play before its turn is complete."""
        snapshots = [frame for frame in self.frames if frame["type"] == "snapshot"]
        assert snapshots
        for frame in snapshots:
            game = frame["view"]["game"]
            assert frame["view"]["you"] is None
            assert game["hand"] is None
            for play in game["plays"]:
                assert play.keys() == {"seat", "count"}, play
        for frame in self.frames:
            if frame["type"] != "commit":
                continue
            for event in frame["events"]:
                assert not event.keys() & {"hand", "hands"}, event
                if event["type"] == "pieces_played":
                    assert event.keys() == {"type", "seat", "count"}, event


def test_a_whole_game_by_mouse_and_a_spectator_sees_the_same(page_url, new_context) -> None:
    player = new_context(viewport={"width": 360, "height": 740}, has_touch=True).new_page()
    start_game(player, page_url)
    seat = part(player, "table").get_attribute("data-you")

    spectator = new_context().new_page()
    wire = Wire(spectator)
    spectator.goto(player.url)
    expect(part(spectator, "spectator")).to_be_visible()

    for _ in range(ACTIONS_MAX):
        player.wait_for_function(DUE, timeout=GAME_MS)
        if part(player, "game-over").count():
            break
        wait_for_seq(spectator, seq(player))
        assert part(spectator, "hand-piece").count() == 0
        assert spectator.locator(f"[data-seat='{seat}'] [data-face]").count() == 0
        act(player)

    expect(part(player, "game-over")).to_be_visible()
    expect(part(spectator, "game-over")).to_be_visible()
    wait_for_seq(spectator, seq(player))
    wait_for_seq(player, seq(spectator))
    assert seq(spectator) == seq(player)
    assert totals(spectator) == totals(player)
    assert max(totals(player)) >= 50
    winners = part(player, "winner").get_attribute("data-winners")
    assert winners
    assert part(spectator, "winner").get_attribute("data-winners") == winners
    wire.check_nothing_hidden()


def test_the_lobby_lists_running_tables_and_one_can_be_watched(page_url, new_context) -> None:
    page = new_context().new_page()
    page.goto(page_url)
    running = page.locator("[data-testid=table-row][data-status=running]")
    expect(running.nth(1)).to_be_visible()
    running.filter(has_text="Liap Tui").first.get_by_test_id("watch").click()
    expect(part(page, "table")).to_have_attribute("data-you", "spectator")
    expect(part(page, "prompt")).not_to_be_empty()
    wait_for_seq(page, seq(page) + 3)


def tab_to(page: Page, selector: str) -> None:
    for _ in range(TABS_MAX):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with the Tab key")


def press(page: Page, selector: str, key: str = "Enter") -> None:
    tab_to(page, selector)
    page.keyboard.press(key)


def test_the_keyboard_alone_declares_and_plays(page_url, new_context) -> None:
    page = new_context().new_page()
    page.goto(page_url)
    expect(part(page, "new-game")).to_be_enabled()
    press(page, "[data-testid=new-game]")
    page.wait_for_function(DUE)
    while part(page, "redeal-decline").count():
        press(page, "[data-testid=redeal-decline]")
        expect(part(page, "redeal-decline")).to_have_count(0)
        page.wait_for_function(DUE)

    press(page, "[data-testid^=declare-]:enabled")
    expect(page.locator("[data-testid^=declare-]")).to_have_count(0)
    page.wait_for_function(DUE)

    tab_to(page, "[data-testid=hand-piece]")
    for _ in range(8):
        page.keyboard.press("Space")
        expect(page.locator(":focus")).to_have_attribute("aria-pressed", "true")
        if part(page, "play").is_enabled():
            break
        page.keyboard.press("ArrowRight")
    press(page, "[data-testid=play]")
    expect(part(page, "hand-piece")).not_to_have_count(8)


def test_no_other_host_is_asked_and_nothing_breaks_the_content_policy(page_url, new_context) -> None:
    page = new_context().new_page()
    hosts: set[str] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    start_game(page, page_url)
    page.wait_for_function(DUE)
    act(page)
    page.get_by_role("link", name="Tablecast").click()
    expect(part(page, "new-game")).to_be_visible()
    assert hosts == {urlsplit(page_url).netloc}
    assert errors == []
