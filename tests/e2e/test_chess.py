"""Chess in a real browser: two players, one with the mouse, one with the keyboard, and a spectator."""

import re

from playwright.sync_api import Page, expect

KEYS = {(1, 0): "ArrowRight", (-1, 0): "ArrowLeft", (0, 1): "ArrowUp", (0, -1): "ArrowDown"}


def square(page: Page, name: str):
    return page.locator(f"[data-square={name}]")


def by_mouse(page: Page, start: str, end: str) -> None:
    square(page, start).click()
    expect(square(page, end)).to_have_class(re.compile(r"\bgoal\b"))
    square(page, end).click()


def walk(page: Page, end: str, is_flipped: bool) -> None:
    """With the arrow keys, from the square that has the focus."""
    start = page.evaluate("document.activeElement.dataset.square")
    turn = -1 if is_flipped else 1
    files, ranks = ord(end[0]) - ord(start[0]), int(end[1]) - int(start[1])
    for step, count in (((turn if files > 0 else -turn, 0), abs(files)), ((0, turn if ranks > 0 else -turn), abs(ranks))):
        for _ in range(count):
            page.keyboard.press(KEYS[step])
    assert page.evaluate("document.activeElement.dataset.square") == end


def by_keyboard(page: Page, start: str, end: str) -> None:
    page.locator("[data-testid=square][tabindex='0']").focus()
    walk(page, start, is_flipped=True)
    page.keyboard.press("Enter")
    expect(square(page, end)).to_have_class(re.compile(r"\bgoal\b"))
    walk(page, end, is_flipped=True)
    page.keyboard.press("Space")


def open_for_two(page_url: str, white: Page, black: Page) -> None:
    white.goto(page_url)
    white.locator("[data-testid=invite-other][data-kind=chess]").click()
    white.wait_for_url(re.compile(r"/t/[0-9a-f-]{36}$"))
    black.goto(white.url)
    black.get_by_test_id("sit").click()
    white.get_by_test_id("start").click()
    for page in (white, black):
        expect(page.get_by_test_id("table")).to_have_attribute("data-phase", "playing")


def errors_of(page: Page) -> list[str]:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    return errors


def test_two_people_play_and_a_third_watches(page_url, new_context) -> None:
    white = new_context().new_page()
    black = new_context(viewport={"width": 360, "height": 740}, has_touch=True).new_page()
    errors = errors_of(white), errors_of(black)
    open_for_two(page_url, white, black)
    spectator = new_context().new_page()
    spectator.goto(white.url)
    expect(spectator.get_by_test_id("spectator")).to_be_visible()
    # Each player sees the own pieces below.
    assert white.get_by_test_id("square").first.get_attribute("data-square") == "a8"
    assert black.get_by_test_id("square").first.get_attribute("data-square") == "h1"

    by_mouse(white, "f2", "f3")
    expect(square(spectator, "f3")).to_have_attribute("data-piece", "P")
    expect(square(spectator, "f2")).to_have_class(re.compile(r"\blast\b"))
    clock = black.get_by_test_id("clock-1")
    before = clock.inner_text()
    expect(clock).not_to_have_text(before)
    by_keyboard(black, "e7", "e5")

    white.get_by_test_id("offer_draw").click()
    black.get_by_test_id("decline_draw").click()
    expect(white.get_by_test_id("prompt")).to_have_text("Your turn.")
    by_mouse(white, "g2", "g4")
    expect(black.get_by_test_id("prompt")).to_have_text("Your turn.")
    by_keyboard(black, "d8", "h4")

    for page in (white, black, spectator):
        expect(page.get_by_test_id("winner")).to_have_attribute("data-winners", "1")
        expect(page.get_by_test_id("reason")).to_have_text("Checkmate.")
        expect(page.get_by_test_id("moves")).to_have_attribute("data-count", "4")
        expect(page.get_by_test_id("moves")).to_contain_text("Qh4#")
        expect(square(page, "e1")).to_have_class(re.compile(r"\bcheck\b"))
    assert errors == ([], [])


def test_who_resigns_is_asked_twice(page_url, new_context) -> None:
    page = new_context().new_page()
    page.goto(page_url)
    page.locator("[data-testid=new-other][data-kind=chess]").click()
    expect(page.get_by_test_id("table")).to_have_attribute("data-phase", "playing")
    page.get_by_test_id("resign").click()
    expect(page.get_by_test_id("resign")).to_have_text("Really resign?")
    expect(page.get_by_test_id("table")).to_have_attribute("data-phase", "playing")
    page.get_by_test_id("resign").click()
    expect(page.get_by_test_id("winner")).to_have_attribute("data-winners", "1")
    expect(page.get_by_test_id("reason")).to_have_text("Resignation.")
