"""WebSocket as RFC 6455 and RFC 7692 have it, at a gateway: the cases of the Autobahn test suite, by their numbers.

The suite itself wants an echo server: `make autobahn` runs it against our WebSocket layer alone, and
`docs/websocket.md` has what comes of it. Here it is the whole gateway that answers, a `ping` with a `pong`,
and a message that is no frame of ours with `malformed`.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from by_hand import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    ByHand,
    Received,
    close,
    deflated,
    fragments,
    frame,
)
from conftest import Gateway, Roles, start_nats
from programs import Programs

MALFORMED = "malformed"
JSON = ("Sec-WebSocket-Protocol", "tablecast.v1.json")
PACKED = ("Sec-WebSocket-Protocol", "tablecast.v1.msgpack")
FRAME_BYTES_MAX = 65536


@dataclass
class Case:
    """What is sent, and what comes back: data of a pong, payload of a WebSocket pong, `malformed`, a close."""

    number: str
    send: list[bytes]
    expect: list[object]
    chop: int = 0
    headers: tuple[tuple[str, str], ...] = (JSON,)

    def __str__(self) -> str:
        return self.number


@dataclass(frozen=True)
class Pong:
    """Of WebSocket."""

    payload: bytes


@dataclass(frozen=True)
class Closed:
    """The last frame."""

    code: int | None


PROTOCOL_ERROR, NOT_UTF8, TOO_BIG = Closed(1002), Closed(1007), Closed(4501)


def ping(data: int, length: int = 0) -> bytes:
    """A frame of ours of at least so many bytes."""
    return json.dumps({"type": "ping", "data": data}).encode().ljust(length)


def text(data: int, length: int = 0) -> bytes:
    return frame(TEXT, ping(data, length))


def framing() -> Iterator[Case]:
    sizes = [125, 126, 127, 128, 65535, 65536]
    yield Case("1.1.1", [frame(TEXT)], [MALFORMED])
    for number, size in enumerate(sizes, 2):
        yield Case(f"1.1.{number}", [text(number, size)], [number])
    yield Case("1.1.8", [text(8, 65536)], [8], chop=997)
    yield Case("1.1-octets", [text(9, 128)], [9], chop=1)
    yield Case("1.2.1", [frame(BINARY)], [MALFORMED], headers=(PACKED,))
    for number, size in enumerate(sizes, 2):
        yield Case(f"1.2.{number}", [frame(BINARY, b"\xfe" * size)], [MALFORMED], headers=(PACKED,))
    yield Case("1.2.8", [frame(BINARY, b"\xfe" * 65536)], [MALFORMED], chop=997, headers=(PACKED,))


def pings() -> Iterator[Case]:
    hello = b"Hello, world!"
    yield Case("2.1", [frame(PING)], [Pong(b"")])
    yield Case("2.2", [frame(PING, hello)], [Pong(hello)])
    yield Case("2.3", [frame(PING, b"\0\xff\xfe\xfd\xfc\xfb\0\xff")], [Pong(b"\0\xff\xfe\xfd\xfc\xfb\0\xff")])
    yield Case("2.4", [frame(PING, b"\xfe" * 125)], [Pong(b"\xfe" * 125)])
    yield Case("2.5", [frame(PING, b"\xfe" * 126)], [PROTOCOL_ERROR])
    yield Case("2.6", [frame(PING, b"\xfe" * 125)], [Pong(b"\xfe" * 125)], chop=1)
    yield Case("2.7", [frame(PONG)], [])
    yield Case("2.8", [frame(PONG, b"unsolicited")], [])
    yield Case("2.9", [frame(PONG, b"unsolicited"), frame(PING, hello)], [Pong(hello)])
    ten = [b"payload-%d" % number for number in range(10)]
    yield Case("2.10", [frame(PING, payload) for payload in ten], [Pong(payload) for payload in ten])
    yield Case("2.11", [frame(PING, payload) for payload in ten], [Pong(payload) for payload in ten], chop=1)


def reserved() -> Iterator[Case]:
    yield Case("3.1", [frame(TEXT, ping(1), FIN | RSV1)], [PROTOCOL_ERROR])
    yield Case("3.2", [text(1), frame(TEXT, ping(2), FIN | RSV2), frame(PING)], [1, PROTOCOL_ERROR])
    yield Case("3.3", [text(1), frame(TEXT, ping(2), FIN | RSV1 | RSV2), frame(PING)], [1, PROTOCOL_ERROR])
    yield Case("3.4", [text(1), frame(TEXT, ping(2), FIN | RSV3), frame(PING)], [1, PROTOCOL_ERROR], chop=1)
    yield Case("3.5", [frame(BINARY, b"x", FIN | RSV1 | RSV3)], [PROTOCOL_ERROR])
    yield Case("3.6", [frame(PING, b"x", FIN | RSV2 | RSV3)], [PROTOCOL_ERROR])
    yield Case("3.7", [frame(CLOSE, b"", FIN | RSV1 | RSV2 | RSV3)], [PROTOCOL_ERROR])


def opcodes() -> Iterator[Case]:
    for section, first in ((1, 3), (2, 11)):
        for number in range(5):
            bad = frame(first + number, b"reserved" if number % 2 else b"")
            before = [text(1)] if number >= 2 else []
            expect = [1] if number >= 2 else []
            yield Case(f"4.{section}.{number + 1}", [*before, bad, frame(PING)], [*expect, PROTOCOL_ERROR])
    yield Case("5.1-masking", [frame(TEXT, ping(1), masked=False)], [PROTOCOL_ERROR])


def fragmentation() -> Iterator[Case]:
    whole = ping(1, 40)
    one, two = fragments(TEXT, whole, 20)
    yield Case("5.1", [frame(PING, b"fragment1", 0), frame(CONTINUATION, b"fragment2")], [PROTOCOL_ERROR])
    yield Case("5.2", [frame(PONG, b"fragment1", 0), frame(CONTINUATION, b"fragment2")], [PROTOCOL_ERROR])
    yield Case("5.3", [one, two], [1])
    yield Case("5.5", [one, two], [1], chop=1)
    yield Case("5.6", [one, frame(PING, b"between"), two], [Pong(b"between"), 1])
    yield Case("5.8", [one, frame(PING, b"between"), two], [Pong(b"between"), 1], chop=1)
    yield Case("5.9", [frame(CONTINUATION, b"no beginning"), text(1)], [PROTOCOL_ERROR])
    yield Case("5.12", [frame(CONTINUATION, b"no beginning", 0), text(1)], [PROTOCOL_ERROR])
    yield Case("5.15", [one, two, frame(CONTINUATION, b"no beginning", 0), text(2)], [1, PROTOCOL_ERROR])
    yield Case("5.16", [frame(CONTINUATION, b"x", 0), one, two], [PROTOCOL_ERROR])
    yield Case("5.18", [one, frame(TEXT, b"fragment2")], [PROTOCOL_ERROR])
    several = fragments(TEXT, whole, 8)
    pings_between = [*several[:2], frame(PING, b"1"), *several[2:4], frame(PING, b"2"), several[4]]
    yield Case("5.19", pings_between, [Pong(b"1"), Pong(b"2"), 1])
    yield Case("5.20", pings_between, [Pong(b"1"), Pong(b"2"), 1], chop=1)


# Sequences of Markus Kuhn's UTF-8 stress test.
VALID = ["cebae1bdb9cf83cebcceb5", "00", "c280", "e0a080", "f0908080", "7f", "dfbf", "efbfbf", "f48fbfbf", "ed9fbf"]
VALID += ["ee8080", "efbfbd", "efbfbe", "f09fbfbe", "f09fbfbf", "f0afbfbe", "48656c6c6f2dc2b540c39fc3b6c3a4"]
INVALID = ["cebae1bdb9cf83cebcceb5eda080656469746564", "80", "bf", "80bf", "80bf80bf80bf", "c0", "c020", "e0", "f0"]
INVALID += ["f820", "fc20", "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af", "c1bf", "e09fbf", "f08fbfbf"]
INVALID += ["f887bfbfbf", "fc83bfbfbfbf", "c080", "e08080", "f0808080", "f4908080", "f888808080", "fc8480808080"]
INVALID += ["eda080", "edadbf", "edaebf", "edafbf", "edb080", "edbe80", "edbfbf", "eda080edb080", "edafbfedbfbf"]
INVALID += ["fe", "ff", "fefeffff", "cebae1bdb9cf83cebcceb5f4908080", "e0a0", "efbf", "f48fbf", "df"]


def utf8() -> Iterator[Case]:
    yield Case("6.1.1", [frame(TEXT)], [MALFORMED])
    yield Case("6.1.2", [frame(TEXT, b"", 0), frame(CONTINUATION, b"", 0), frame(CONTINUATION)], [MALFORMED])
    empty = [frame(TEXT, b"", 0), frame(CONTINUATION, ping(1), 0), frame(CONTINUATION)]
    yield Case("6.1.3", empty, [1])
    for sequence in VALID:
        payload = bytes.fromhex(sequence)
        yield Case(f"6.5-{sequence}", [frame(TEXT, payload)], [MALFORMED])
        # Cut within characters, which is no fault.
        yield Case(f"6.2-{sequence}", fragments(TEXT, payload, 1), [MALFORMED])
    for sequence in INVALID:
        yield Case(f"6.6-{sequence}", [frame(TEXT, bytes.fromhex(sequence))], [NOT_UTF8])
    yield Case("6.3.2", fragments(TEXT, bytes.fromhex(INVALID[0]), 1), [NOT_UTF8])


def closing() -> Iterator[Case]:
    yield Case("7.1.1", [text(1), close(1000)], [1, Closed(1000)])
    yield Case("7.1.2", [close(1000), close(1000)], [Closed(1000)])
    yield Case("7.1.3", [close(1000), frame(PING, b"late")], [Closed(1000)])
    yield Case("7.1.4", [close(1000), text(1)], [Closed(1000)])
    one, two = fragments(TEXT, ping(1, 40), 20)
    yield Case("7.1.5", [one, close(1000), two], [Closed(1000)])
    yield Case("7.1.6", [text(1, 65536), close(1000), frame(PING)], [1, Closed(1000)])
    yield Case("7.3.1", [frame(CLOSE)], [Closed(None)])
    yield Case("7.3.2", [frame(CLOSE, b"a")], [PROTOCOL_ERROR])
    yield Case("7.3.3", [close(1000)], [Closed(1000)])
    yield Case("7.3.4", [close(1000, b"Hello World!")], [Closed(1000)])
    yield Case("7.3.5", [close(1000, b"*" * 123)], [Closed(1000)])
    yield Case("7.3.6", [close(1000, b"*" * 124)], [PROTOCOL_ERROR])
    yield Case("7.5.1", [close(1000, bytes.fromhex(INVALID[0]))], [NOT_UTF8])
    valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    for code in valid:
        yield Case(f"7.7-{code}", [close(code)], [Closed(code)])
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999]:
        yield Case(f"7.9-{code}", [close(code)], [PROTOCOL_ERROR])
    for code in [5000, 65535]:
        yield Case(f"7.13-{code}", [close(code)], [PROTOCOL_ERROR])


def limits() -> Iterator[Case]:
    largest = ping(1, FRAME_BYTES_MAX)
    for size in [64, 256, 1024, 4096, 16384, 65536]:
        yield Case(f"9.3-{size}", fragments(TEXT, largest, size), [1])
    for chop in [64, 1024, 2048]:
        yield Case(f"9.5-{chop}", [frame(TEXT, largest)], [1], chop=chop)
    yield Case("9.1-larger", [text(1, FRAME_BYTES_MAX + 1)], [TOO_BIG])
    yield Case("9.3-larger", fragments(TEXT, ping(1, FRAME_BYTES_MAX + 1), 1024), [TOO_BIG])
    huge = struct.pack("!BBQ", FIN | TEXT, 0x80 | 127, 1 << 62)
    yield Case("9.9", [huge], [TOO_BIG])
    yield Case("10.1.1", fragments(TEXT, largest, 1300), [1])


def compression() -> Iterator[Case]:
    offers = [
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=15",
        "permessage-deflate; server_max_window_bits=9, permessage-deflate",
        "permessage-deflate; server_max_window_bits=15",
    ]
    for number, offer in enumerate(offers, 1):
        headers = (JSON, ("Sec-WebSocket-Extensions", offer))
        bits = 9 if "bits=9" in offer and "server_max" not in offer else 15
        for size in [16, 64, 256, 1024, 65536]:
            payload = deflated(ping(size, size), bits)
            yield Case(f"13.{number}-{size}", [frame(TEXT, payload, FIN | RSV1)], [size], headers=headers)
        parts = fragments(TEXT, deflated(ping(7, 4096), bits), 8)
        parts[0] = bytes([parts[0][0] | RSV1]) + parts[0][1:]
        send = [parts[0], frame(PING), *parts[1:], text(8)]
        yield Case(f"13.{number}-parts", send, [Pong(b""), 7, 8], headers=headers)
    headers = (JSON, ("Sec-WebSocket-Extensions", offers[0]))
    bomb = frame(TEXT, deflated(ping(1, 10 * FRAME_BYTES_MAX)), FIN | RSV1)
    yield Case("12-bomb", [bomb], [TOO_BIG], headers=headers)
    yield Case("12-corrupt", [frame(TEXT, b"\xff" * 20, FIN | RSV1)], [PROTOCOL_ERROR], headers=headers)
    stored = frame(TEXT, deflated(ping(3, 300), level=0), FIN | RSV1)
    yield Case("12-stored", [stored], [3], headers=headers)
    yield Case("12-ping", [frame(PING, b"x", FIN | RSV1)], [PROTOCOL_ERROR], headers=headers)
    late = [frame(TEXT, ping(1)[:5], 0), frame(CONTINUATION, ping(1)[5:], FIN | RSV1)]
    yield Case("12-late", late, [PROTOCOL_ERROR], headers=headers)


SECTIONS = [framing, pings, reserved, opcodes, fragmentation, utf8, closing, limits, compression]
CASES = [case for section in SECTIONS for case in section()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    programs = Programs(tmp_path_factory.mktemp("websocket"))
    try:
        nats = start_nats(programs, "--jetstream", "--store_dir", str(programs.directory / "nats"))
        yield Roles(programs, nats).gateway("--frame-bytes-max", str(FRAME_BYTES_MAX))
        assert not [line for program in programs.all for line in program.log() if "panicked" in line]
    finally:
        programs.reap()


def seen(received: Received, is_packed: bool) -> object:
    """What a frame of the gateway is in the words of a case."""
    if received.opcode == PONG:
        return Pong(received.payload)
    if received.opcode == CLOSE:
        return Closed(struct.unpack("!H", received.payload[:2])[0] if received.payload else None)
    if is_packed:
        assert received.opcode == BINARY
        return MALFORMED if MALFORMED.encode() in received.payload else received.payload
    assert received.opcode == TEXT
    answer = received.json()
    return answer["data"] if answer["type"] == "pong" else answer["code"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_autobahn_suite(served: Gateway, case: Case) -> None:
    expected = list(case.expect)
    if not (expected and isinstance(expected[-1], Closed)):
        # It goes on, until the client has had enough.
        case.send.append(close(1000))
        expected.append(Closed(1000))
    with ByHand(served.socket, case.headers) as client:
        agreed = client.headers.get("sec-websocket-extensions", "")
        assert ("Sec-WebSocket-Extensions" in dict(case.headers)) == agreed.startswith("permessage-deflate")
        # A client that names it may insist on the answer.
        offered = dict(case.headers).get("Sec-WebSocket-Extensions", "")
        assert ("server_max_window_bits=15" in offered) == agreed.endswith("; server_max_window_bits=15")
        welcome = client.receive()
        assert welcome and b"welcome" in welcome.payload
        client.send(b"".join(case.send), case.chop)
        answers = []
        while received := client.receive():
            answers.append(seen(received, PACKED in case.headers))
        assert answers == expected
