"""`tablecast dev`: whole games into an archive that others can read, and everything that can go wrong at start."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import bus
import duckdb
import pytest
from conftest import Gateway, NatsServer, start_nats
from programs import NATS_SERVER, TABLECAST, Programs, children, free_port, is_alive, poll, poll_async, run, tablecast

REPORT = {"games", "commits", "commands", "duration_ms", "archived_objects"}


def archived(store: Path) -> list[dict]:
    """Every line of `archive ls`."""
    lines = tablecast("archive", "--store", store, "ls", "--limit", "100000", "--json").splitlines()
    return [json.loads(line) for line in lines]


def test_five_games_print_one_line_of_json(programs: Programs) -> None:
    data = programs.directory / "data"
    options = ("--games", "5", "--pace", "0", "--port", "0", "--data-dir", data, "--nats-server", NATS_SERVER)
    dev = programs.tablecast("dev", *options)
    assert dev.wait(60) == 0, dev.log()[-5:]
    [line] = dev.out()
    report = json.loads(line)
    assert report.keys() == REPORT
    assert report["games"] == 5
    assert 1 <= report["archived_objects"] <= 5
    assert report["duration_ms"] > 0
    assert report["commands"] <= report["commits"]
    games = archived(data / "archive")
    assert len(games) == 5
    assert report["commits"] == sum(game["commits"] for game in games)
    assert not dev.errors()
    assert not programs.orphans(), "the nats-server is still there"


async def test_two_hundred_games_are_archived_as_they_were_played(programs: Programs, nats: NatsServer) -> None:
    data = programs.directory / "data"
    options = ("--games", "200", "--tables", "16", "--pace", "0", "--port", "0", "--data-dir", data)
    async with bus.connected(nats.url) as client, bus.recording(client) as record:
        dev = programs.tablecast("dev", *options, "--nats-url", nats.url)
        await poll_async(lambda: dev.process.poll() is not None, "the games are over", patience=240)
        assert dev.process.returncode == 0, dev.log()[-5:]
        await bus.settled(record)
    assert nats.program.process.poll() is None, "a server that was there before goes on"
    report = json.loads(dev.out()[0])
    assert report["games"] == 200

    played, ends = record.tables(), record.ends()
    assert len(played) == len(ends) == 200
    for commits in played.values():
        bus.assert_unbroken(commits)
    assert report["commits"] == sum(len(commits) for commits in played.values())
    assert sorted(game["table_id"] for game in archived(data / "archive")) == sorted(played)
    assert_analyst_sees(data / "archive", played, ends)
    assert_readable_by_id(data / "archive", played)


def assert_analyst_sees(store: Path, played: dict[str, list[bus.Stored]], ends: dict[str, dict]) -> None:
    """DuckDB, reading the files directly, finds each game once, as it ended and with all that happened."""
    rows = duckdb.sql(
        f"""
        SELECT table_id, winners, scores, commits, status, closing,
               list_transform(events, lambda event: event.seq),
               list_transform(events, lambda event: event.type)
        FROM read_parquet('{store}/live/*/*.parquet')
        """
    ).fetchall()
    assert len(rows) == len({row[0] for row in rows}) == len(played)
    for table, winners, scores, commits, status, closing, seqs, types in rows:
        end = ends[table]
        # Liap Tui adds scores up, chess has one.
        assert (winners, scores) == (end["winners"], end.get("totals") or end["scores"]), table
        assert (commits, status, closing) == (len(played[table]), "archived", "finished")
        happened = [(stored.seq, event["type"]) for stored in played[table] for event in stored.events]
        assert list(zip(seqs, types, strict=True)) == happened, table


def assert_readable_by_id(store: Path, played: dict[str, list[bus.Stored]]) -> None:
    """A sample by the command line, down to the last field of each event."""
    for table in sorted(played)[::10]:
        game = json.loads(tablecast("archive", "--store", store, "get", table, "--json"))
        assert game["table_id"] == table
        assert game["commits"] == len(played[table])
        read = [{"type": event["type"]} | event["data"] for event in game["events"]]
        assert read == [event for stored in played[table] for event in stored.events]
    for_people = tablecast("archive", "--store", store, "get", table)
    assert table in for_people


def assert_fails(arguments: tuple[str | Path, ...], code: int, *named: str, patience: float = 30) -> str:
    """One clear line on standard error that names what is wrong; nothing on standard output."""
    done = run(TABLECAST, "dev", "--port", "0", *arguments, patience=patience)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if code == 2 or " ERROR " in line]
    assert lines
    assert code == 2 or len(lines) == 1, lines
    for words in named:
        assert words in (done.stderr if code == 2 else lines[0]), done.stderr
    assert "panicked" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--pace", "banana"), "--pace"),
        (("--pace=-1",), "--pace"),
        (("--pace", "NaN"), "--pace"),
        (("--port", "99999"), "--port"),
        (("--games", "0"), "--games"),
        (("--bind", "nowhere"), "--bind"),
        (("--tables", "many"), "--tables"),
        (("--colour", "red"), "--colour"),
        (("--nats-url", "nats://127.0.0.1:4222", "--nats-server", "nats-server"), "--nats-server"),
    ],
)
def test_an_impossible_option_starts_nothing(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    options = ["dev", "--data-dir", tmp_path / "data", *arguments]
    done = run(TABLECAST, *options)
    assert done.returncode == 2
    assert named in done.stderr
    assert "panicked" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    assert_fails(("--data-dir", tmp_path, "--nats-url", f"nats://{address}"), 1, address)
    assert time.monotonic() - started < 20


def test_a_server_without_jetstream_is_told_so(programs: Programs) -> None:
    nats = start_nats(programs)
    assert_fails(("--data-dir", programs.directory / "data", "--nats-url", nats.url), 1, "JetStream")


def test_a_binary_that_is_no_nats_server_is_named(tmp_path: Path) -> None:
    assert_fails(("--data-dir", tmp_path, "--nats-server", "/nowhere/nats-server"), 1, "/nowhere/nats-server")


def test_a_data_dir_that_cannot_be_is_named(tmp_path: Path) -> None:
    assert_fails(("--data-dir", "/proc/x", "--nats-server", NATS_SERVER), 1, "/proc/x", "--data-dir")


def test_a_port_that_is_taken_is_named(programs: Programs, dev: Callable[..., Gateway]) -> None:
    taken = dev("--tables", "0").page.rstrip("/").rpartition(":")[2]
    options = ("--data-dir", programs.directory / "other", "--nats-server", NATS_SERVER, "--port", taken)
    done = run(TABLECAST, "dev", *options)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert f"127.0.0.1:{taken}" in line
    assert "--port" in line
    assert not [pid for pid in programs.orphans() if str(programs.directory / "other").encode() in cmdline(pid)]


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def nats_child(pid: int) -> int:
    [child] = [child for child in children(pid) if b"--store_dir" in cmdline(child)]
    return child


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_everything(dev: Callable[..., Gateway], name: str) -> None:
    program = dev("--pace", "0.02").program
    child = nats_child(program.pid)
    asked = time.monotonic()
    program.process.send_signal(signal.Signals[name])
    assert program.wait(10) == 0, program.log()[-5:]
    assert time.monotonic() - asked < 5
    assert not is_alive(child)
    assert not program.errors()


def nats_url(program_log: list[str]) -> str | None:
    found = [match[1] for line in program_log if (match := re.search(r"(nats://127\.0\.0\.1:\d+)", line))]
    return found[0] if found else None


def running(url: str) -> list[str]:
    """The running tables, as `tables ls` has them."""
    lines = tablecast("tables", "--nats-url", url, "ls", "--json").splitlines()
    return [entry["table"] for line in lines if (entry := json.loads(line))["status"] == "running"]


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="without setpriv the child outlives a kill")
def test_a_kill_takes_the_server_along_and_the_next_start_finishes_the_tables(
    programs: Programs, dev: Callable[..., Gateway]
) -> None:
    program = dev("--pace", "0.005", "--tables", "3").program
    url = nats_url(program.log())
    left = poll(lambda: (tables := running(url)) and len(tables) >= 3 and tables, "three tables are running")
    child = nats_child(program.pid)
    os.kill(program.pid, signal.SIGKILL)
    killed_ms = time.time() * 1000
    program.wait()

    # At once: the server that was left is still closing its files.
    again = dev("--pace", "0.005", "--tables", "3").program
    poll(lambda: not is_alive(child), "the server of the killed process is gone", patience=10)
    archive = programs.directory / "data/archive"
    poll(
        lambda: set(left) <= {game["table_id"] for game in archived(archive)},
        f"{left} are finished and archived",
        patience=60,
    )
    assert again.stop(10) == 0
    survivors = 0
    for table in left:
        game = json.loads(tablecast("archive", "--store", archive, "get", table, "--json"))
        assert game["status"] == "archived"
        assert game["closing"] == "finished"
        # A short game may have ended between the look and the kill.
        survived = game["ended_at"] > killed_ms
        assert [event["type"] for event in game["events"]].count("table.claimed") >= survived
        survivors += survived
    assert survivors
