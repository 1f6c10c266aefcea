"""Tokens by the command line: what it issues, it takes, and it says why it does not take another."""

import pytest
from conftest import TOKEN_SECRET
from programs import REPOSITORY, TABLECAST, run

KEYS = REPOSITORY / "tests/support/keys"
TABLE = "019ab3c4-5d6e-7f80-9123-456789abcdef"
SECRET = ("--token-secret", TOKEN_SECRET)


def issue(*arguments: str) -> str:
    done = run(TABLECAST, "token", "issue", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(token: str, *arguments: str) -> tuple[int, str, str]:
    done = run(TABLECAST, "token", "check", token, *arguments)
    assert "panicked" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("key", ["secret", "ed-1", "rsa-1"])
def test_what_is_issued_is_taken(key: str) -> None:
    if key == "secret":
        signing, checking = SECRET, SECRET
    else:
        signing = ("--private-key", str(KEYS / f"{key}.private.pem"), "--kid", key)
        checking = ("--token-key", str(KEYS / f"{key}.public.pem"))
    token = issue("--player", "alice", "--name", "Alice", *signing)
    code, out, err = check(token, *checking)
    assert code == 0, err
    assert "sub=alice" in out or "sub: alice" in out
    assert "verdict: taken, as player alice" in out


def test_a_seat_token_names_its_seat() -> None:
    token = issue("--table", TABLE, "--seat", "2", *SECRET)
    code, out, _ = check(token, *SECRET)
    assert code == 0
    assert f"verdict: taken, as player seat@{TABLE}.2" in out


@pytest.mark.parametrize(
    ("issued", "checked", "reason"),
    [
        ((*SECRET, "--ttl", "0s", "--audience", "shop"), SECRET, "wrong_audience"),
        (SECRET, (*SECRET, "--token-issuer", "us"), "wrong_issuer"),
        (SECRET, ("--token-secret", "another-secret-of-32-bytes-or-more"), "not_ours"),
        (SECRET, ("--token-key", str(KEYS / "ed-1.public.pem")), "not_ours"),
    ],
)
def test_a_token_that_is_not_taken_has_a_reason(
    issued: tuple[str, ...], checked: tuple[str, ...], reason: str
) -> None:
    code, out, err = check(issue("--player", "alice", *issued), *checked)
    assert code == 1
    assert f"verdict: refused ({reason})" in out
    assert "does not take this token" in err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("check", "x.y.z", *SECRET), 1, "no JSON Web Token"),
        (("check", "x.y.z"), 1, "--token-secret, --token-key or --jwks-url"),
        (("check", "x", "--token-key", str(KEYS / "ed-1.private.pem")), 1, ""),
        (("issue", "--player", "alice"), 1, "--private-key"),
        (("issue", *SECRET), 2, "--player"),
        (("issue", "--player", "a b", *SECRET), 2, "--player"),
        (("issue", "--player", "a", "--name", "x" * 25, *SECRET), 1, "name"),
        (("issue", "--seat", "1", *SECRET), 2, "--table"),
        (("issue", "--player", "a", "--private-key", str(KEYS / "ed-1.public.pem")), 1, "no private key"),
        (("issue", "--player", "a", "--token-secret", "short"), 2, "32 bytes"),
    ],
)
def test_a_mistake_is_named(arguments: tuple[str, ...], code: int, named: str) -> None:
    done = run(TABLECAST, "token", *arguments)
    assert done.returncode == code, done.stderr
    assert named in done.stdout + done.stderr
    assert "panicked" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("gateway",), "--token-secret, --token-key or --jwks-url"),
        (("gateway", "--guest-tokens", "--token-key", "x.pem"), "--token-secret"),
        (("gateway", *SECRET, "--allow-origin", "play.example"), "origin"),
    ],
)
def test_a_gateway_needs_keys(arguments: tuple[str, ...], named: str) -> None:
    done = run(TABLECAST, *arguments)
    assert done.returncode == 2
    assert named in done.stderr
