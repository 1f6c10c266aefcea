"""The worked example of a game of one's own, through every role."""

import json
import os

from programs import NATS_SERVER, REPOSITORY, run


def test_a_game_of_ones_own_is_played_and_archived(tmp_path) -> None:
    cargo = os.environ.get("CARGO", "cargo")
    example = (cargo, "run", "--manifest-path", REPOSITORY / "Cargo.toml", "--locked", "--offline", "--quiet")
    dev = ("dev", "--games", "3", "--pace", "0", "--port", "0", "--data-dir", tmp_path, "--nats-server", NATS_SERVER)
    done = run(*example, "--example", "tic_tac_toe", "--", *dev, patience=300)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert json.loads(line)["games"] == 3
    store = ("archive", "--store", tmp_path / "archive", "--json", "ls")
    games = run(*example, "--example", "tic_tac_toe", "--", *store, patience=60)
    assert [json.loads(line)["kind"] for line in games.stdout.splitlines()] == ["tic-tac-toe"] * 3
