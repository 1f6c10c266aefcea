"""What all end-to-end tests stand on: programs that are reaped, NATS, the roles together or apart, a Chromium."""

import asyncio
import inspect
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from programs import NATS_SERVER, REPOSITORY, Program, Programs, poll

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
# Limits that a game at full speed does not meet: what they do when it does is tested apart.
UNTHROTTLED = (
    *("--inbound-rate", "100000", "--inbound-burst", "100000"),
    *("--player-rate", "100000", "--player-burst", "100000"),
    *("--outbound-bytes-rate", "1000000000", "--outbound-bytes-burst", "1000000000"),
    *("--outbound-table-rate", "100000", "--outbound-table-burst", "100000"),
    *("--outbound-rate", "100000", "--outbound-burst", "100000"),
    *("--outbox-frames", "100000", "--outbox-bytes", "100000000", "--outbox-age", "60s"),
)
TOKEN_SECRET = "a-secret-of-the-end-to-end-tests-and-of-nobody-else"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs tests that are coroutines, in a thread: Playwright has a loop of its own in this one."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, pyfuncitem.obj(**arguments)).result()
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows the programs' logs beside a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Programs):
                report.sections.append(("logs of the programs", value.report()))
    return report


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """For starting programs; all of them end with the test."""
    programs = Programs(tmp_path)
    yield programs
    programs.reap()


@dataclass
class NatsServer:
    """A running server, as compose.yaml configures it."""

    program: Program
    url: str


def start_nats(programs: Programs, *more: str) -> NatsServer:
    """Starts a server on a port that it chooses."""
    ports = programs.directory / "nats-ports"
    ports.mkdir(exist_ok=True)
    for file in ports.iterdir():
        file.unlink()
    program = programs.start(
        "nats-server", NATS_SERVER, "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", ports, *more
    )

    def look() -> str | None:
        assert program.process.poll() is None, program.log()
        for file in ports.glob("*.ports"):
            try:
                return json.loads(file.read_text())["nats"][0]
            except (json.JSONDecodeError, KeyError):
                return None
        return None

    return NatsServer(program, poll(look, "nats-server has a port"))


@pytest.fixture
def nats(programs: Programs) -> NatsServer:
    """A NATS server with the settings of nats/server.conf."""
    config = REPOSITORY / "nats/server.conf"
    return start_nats(programs, "--config", str(config), "--store_dir", str(programs.directory / "nats"))


@dataclass
class Gateway:
    """A running gateway."""

    program: Program
    page: str

    @property
    def socket(self) -> str:
        return self.page.replace("http://", "ws://") + "ws"


class Roles:
    """The roles as processes of their own, beside one NATS server."""

    def __init__(self, programs: Programs, nats: NatsServer):
        self.programs = programs
        self.nats = nats
        self.store = f"file://{programs.directory / 'archive'}"
        self.workers: dict[str, Program] = {}

    def worker(self, name: str, *more: str) -> Program:
        program = self.programs.tablecast("worker", "--nats-url", self.nats.url, "--worker-id", name, *more)
        poll(lambda: any("takes tables" in line for line in program.log()), f"worker {name} takes tables")
        self.workers[name] = program
        return program

    def gateway(self, *more: str) -> Gateway:
        program = self.programs.tablecast(
            "gateway",
            *("--nats-url", self.nats.url, "--port", "0", "--guest-tokens", *more),
            TABLECAST_GATEWAY_TOKEN_SECRET=TOKEN_SECRET,
        )
        return Gateway(program, program.wait_for_line("page: "))

    def archiver(self, *more: str) -> Program:
        return self.programs.tablecast(
            "archiver", "--nats-url", self.nats.url, "--store", self.store, "--batch-age", "300ms", *more
        )


@pytest.fixture
def roles(programs: Programs, nats: NatsServer) -> Roles:
    """Starts roles apart; none yet."""
    return Roles(programs, nats)


@pytest.fixture
def dev(programs: Programs) -> Callable[..., Gateway]:
    """Starts `tablecast dev` with tables of bots, and returns where its page is."""

    def start(*more: str | Path) -> Gateway:
        program = programs.tablecast(
            "dev", "--data-dir", programs.directory / "data", "--port", "0", "--nats-server", NATS_SERVER, *more
        )
        return Gateway(program, program.wait_for_line("page: "))

    return start


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `tablecast dev` prints, with two tables of bots at a quick pace."""
    programs = Programs(tmp_path_factory.mktemp("page"))
    options = ("--data-dir", programs.directory / "data", "--port", "0", "--nats-server", NATS_SERVER)
    program = programs.tablecast("dev", *options, "--pace", "0.02", "--tables", "2")
    try:
        yield program.wait_for_line("page: ")
    finally:
        programs.reap()


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
