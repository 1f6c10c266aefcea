"""A running `tablecast dev`, and a Chromium to look at it with."""

import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
WAIT_MS = 60_000
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `tablecast dev` prints, with two tables of bots at a quick pace."""
    binary = os.environ.get("TABLECAST", str(ROOT / "target/debug/tablecast"))
    command = [binary, "dev", "--port", "0", "--pace", "0.02", "--tables", "2"]
    command += ["--data-dir", str(tmp_path_factory.mktemp("data"))]
    if server := os.environ.get("NATS_SERVER"):
        command += ["--nats-server", server]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: queue.Queue[str] = queue.Queue()
    # Reads on for as long as the process writes, so that a full pipe never stops it.
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    try:
        yield next_address(lines)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def next_address(lines: "queue.Queue[str]") -> str:
    try:
        while True:
            line = lines.get(timeout=START_SECONDS)
            if line.startswith("page: "):
                return line.removeprefix("page: ").strip()
    except queue.Empty:
        pytest.fail(f"no `page:` line within {START_SECONDS} s")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=CHROMIUM_ARGS,
        )
        yield chromium
        chromium.close()


@pytest.fixture
def new_context(browser: Browser):
    """Makes browser contexts, each another person, whose games have no pauses."""
    contexts: list[BrowserContext] = []

    def make(**options) -> BrowserContext:
        context = browser.new_context(**options)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script("localStorage.setItem('tablecast.pace', 'blitz')")
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()
