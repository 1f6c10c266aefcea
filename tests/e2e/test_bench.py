"""The measurements of the gateway under load, each small: they must run, and see what happens."""

import json
from pathlib import Path
from typing import Any

import pytest
from programs import NATS_SERVER, TABLECAST, run

# A machine for tests need not have two cores, and figures do not matter here.
COMMON = (
    *("--unpinned", "--runs", "1", "--peer", "nats-ws"),
    *("--baseline-sockets", "4", "--nats-server", NATS_SERVER),
)


def bench(directory: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What a measurement prints, and what it writes."""
    file = directory / "figures.json"
    done = run(TABLECAST, "bench", *arguments, *COMMON, "--json", file, patience=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def figures(report: dict[str, Any], server: str) -> dict[str, float]:
    """Those of a server in the only run."""
    [outcome] = [outcome for outcome in report["outcomes"] if outcome["server"] == server]
    return {figure["name"]: figure["value"] for figure in outcome["figures"]}


def steps(report: dict[str, Any], server: str) -> list[dict[str, Any]]:
    [outcome] = [outcome for outcome in report["outcomes"] if outcome["server"] == server]
    return outcome["steps"]


SERVERS = ("tablecast", "nats-ws")


@pytest.mark.parametrize("way", ["stream", "live"])
def test_fanout_counts_every_event_of_every_viewer(tmp_path: Path, way: str) -> None:
    options = ("--tables", "2", "--viewers", "3", "--seconds", "0.5", "--warm-up", "0.1", "--rates", "50")
    printed, report = bench(tmp_path, "fanout", *options, "--input", way)
    assert "OURS / NATS-WS" in printed
    assert [limit["frames_a_write"] for limit in report["baseline"]] == [1, 4, 16]
    for server in SERVERS:
        [step] = steps(report, server)
        assert step["published"] > 0
        assert step["delivered"] > 0
        assert step["p99_ms"] > 0
        found = figures(report, server)
        for wrong in ("events lost", "events repeated or out of order", "clients not up to date in the end"):
            assert found[wrong] == 0, (server, wrong)
    [ours] = steps(report, "tablecast")
    assert (ours["acknowledged"] > 0) == (way == "stream")
    assert ours["refused"] == 0


def test_a_stalled_client_ends_up_to_date(tmp_path: Path) -> None:
    options = ("--tables", "1", "--viewers", "3", "--seconds", "0.5", "--warm-up", "0.1", "--rates", "50")
    _, report = bench(tmp_path, "fanout", *options, "--stall", "1")
    for server in SERVERS:
        found = figures(report, server)
        assert found["events a stalled client was behind"] > 0
        assert found["clients not up to date in the end"] == 0
        assert found["lost or out of order when it read again"] == 0


def test_idle_connections_are_set_up_and_churned(tmp_path: Path) -> None:
    _, report = bench(tmp_path, "idle", *("--connections", "8,16", "--settling", "100ms", "--churn", "300ms", "--churn-batch", "4"))
    for server in SERVERS:
        found = figures(report, server)
        assert found["empty, MiB"] > 0
        assert found["set up per second"] > 0
        assert "KiB a connection at 16" in found
        assert found["connections lost"] == 0


def test_everybody_is_back_after_a_storm(tmp_path: Path) -> None:
    _, report = bench(tmp_path, "storm", "--clients", "20", "--tables", "5")
    for server in SERVERS:
        found = figures(report, server)
        assert 0 < found["p50 s"] <= found["all back, s"]
        assert found["clients refused twice"] == 0
        assert found["frames that were errors"] == 0
    # The tables were followed when the storm came: nothing is read again.
    assert figures(report, "tablecast")["reads of streams"] <= 5


def test_questions_are_answered(tmp_path: Path) -> None:
    _, report = bench(tmp_path, "echo", "--connections", "4", "--rates", "100", "--seconds", "0.5")
    for server in SERVERS:
        [step] = steps(report, server)
        assert step["answers_per_second"] > 0
        assert step["p99_ms"] > 0
