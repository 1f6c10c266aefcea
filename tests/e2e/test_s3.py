"""An archive in an S3 store, by the very commands of compose.yaml."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from conftest import Gateway, NatsServer
from players import Player, connected, guest
from programs import REPOSITORY, TABLECAST, WEED, Program, Programs, free_port, is_listening, poll, poll_async, run

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
# `${NAME:-default}`: docker compose fills in the default of what is not set.
UNSET = re.compile(r"\$\{[A-Z0-9_]+:-([^}]*)\}")


class Composition:
    """Starts services of compose.yaml as processes on this machine."""

    def __init__(self, programs: Programs, places: Mapping[str, str]):
        self._programs = programs
        self._places = places

    def _adapted(self, word: str) -> str:
        for place, here in self._places.items():
            word = word.replace(place, here)
        return word

    def environment(self, service: str) -> dict[str, str]:
        settings = COMPOSE[service].get("environment", {})
        return {key: self._adapted(UNSET.sub(r"\1", value)) for key, value in settings.items()}

    def start(self, service: str, program: str, *more: str) -> Program:
        words = [self._adapted(word) for word in COMPOSE[service]["command"]]
        return self._programs.start(service, program, *words, *more, **self.environment(service))


def free_pair() -> int:
    """A port that is free together with the one 10,000 above it, where SeaweedFS puts its gRPC."""
    return poll(
        lambda: (port := free_port()) < 55_000 and not is_listening(port + 10_000) and port, "a free pair of ports"
    )


def start_seaweedfs(composition: Composition, port: int) -> Program:
    names = ("master.port", "filer.port", "volume.port", "admin.port", "s3.port.iceberg", "s3.port.lance")
    ports = [f"-{name}={free_pair()}" for name in names]
    weed = composition.start("seaweedfs", WEED, f"-s3.port={port}", *ports)
    poll(lambda: b"200" in healthz(port) or weed.process.poll() is not None, "SeaweedFS is healthy")
    assert weed.process.poll() is None, weed.out()[-5:]
    return weed


def healthz(port: int) -> bytes:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return str(connection.getresponse().status).encode()
    except OSError:
        return b""
    finally:
        connection.close()


@pytest.fixture
def composition(programs: Programs, nats: NatsServer) -> Composition:
    port = free_pair()
    directory = programs.directory / "seaweedfs"
    directory.mkdir()
    composition = Composition(
        programs,
        {
            "nats://nats:4222": nats.url,
            "http://seaweedfs:8333": f"http://127.0.0.1:{port}",
            "0.0.0.0:9100": "127.0.0.1:0",
            "--bind=0.0.0.0": "--bind=127.0.0.1",
            "--port=8420": "--port=0",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "-dir=/data": f"-dir={directory}",
        },
    )
    start_seaweedfs(composition, port)
    return composition


def archive_get(composition: Composition, table: str) -> dict[str, Any] | None:
    options = [word for word in COMPOSE["archiver"]["command"] if word.startswith(("--store", "--s3"))]
    words = [composition._adapted(word) for word in options]
    keys = {key: value for key, value in composition.environment("archiver").items() if key.startswith("AWS_")}
    done = run(TABLECAST, "archive", *words, "get", table, "--json", **keys)
    assert done.returncode == 0 or "is no table" in done.stderr, done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else None


async def test_the_composition_archives_a_game_in_s3(composition: Composition) -> None:
    composition.start("worker", TABLECAST)
    gateway = composition.start("gateway", TABLECAST)
    page = Gateway(gateway, gateway.wait_for_line("page: "))
    archiver = composition.start("archiver", TABLECAST, "--batch-age=300ms")
    ann = guest(page.page, "Ann")
    async with connected(page.socket, ann["token"]) as client:
        table = await client.open(seats=["me", "bot", "bot", "bot"])
        await client.subscribe(table, deliver="views")
        view = await Player(table).play(client)
        last = client.cursor(table)
    started = time.monotonic()
    game = await poll_async(lambda: archive_get(composition, table), "the game is in the store")
    print(f"in the store after {time.monotonic() - started:.1f} s")
    assert game["commits"] == last
    assert (game["winners"], game["scores"]) == (view["result"]["winners"], view["result"]["scores"])
    assert archiver.stop() == 0
    for line in gateway.log() + archiver.log():
        assert json.loads(line)["level"] in ("INFO", "WARN"), line


def test_a_store_that_cannot_be_used_is_one_clear_line(composition: Composition, nats: NatsServer) -> None:
    endpoint = composition._places["http://seaweedfs:8333"]
    keys = {"AWS_ACCESS_KEY_ID": "tablecast", "AWS_SECRET_ACCESS_KEY": "known-to-everyone"}
    secure, named = ("--s3-endpoint", endpoint), ("--nats-url", nats.url, "--store", "s3://tablecast/games")
    for arguments, environment, wanted in [
        ((*named, *secure, "--s3-allow-http"), {}, "AWS_ACCESS_KEY_ID"),
        ((*named, *secure), keys, "--s3-allow-http"),
        (("--nats-url", nats.url, "--store", "ftp://tablecast"), {}, "ftp"),
        (("--nats-url", nats.url), {}, "--store"),
    ]:
        done = run(TABLECAST, "archiver", *arguments, **environment)
        assert done.returncode in (1, 2)
        assert wanted in done.stderr
        assert "panicked" not in done.stderr
        assert "known-to-everyone" not in done.stderr
