"""A WebSocket client that sends any bytes: libraries send only what is right."""

import base64
import json
import os
import socket
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from programs import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10


def frame(opcode: int, payload: bytes = b"", first: int = FIN, masked: bool = True) -> bytes:
    """One frame of a client."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first | opcode, (0x80 if masked else 0) | length)
    elif length < 65536:
        head = struct.pack("!BBH", first | opcode, (0x80 if masked else 0) | 126, length)
    else:
        head = struct.pack("!BBQ", first | opcode, (0x80 if masked else 0) | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    stream = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + mask + mixed.to_bytes(length, "big")


def fragments(opcode: int, payload: bytes, size: int) -> list[bytes]:
    """The same message in frames of so many bytes."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    last = len(parts) - 1
    return [
        frame(opcode if number == 0 else CONTINUATION, part, FIN if number == last else 0)
        for number, part in enumerate(parts)
    ]


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def deflated(payload: bytes, window_bits: int = 15, level: int = 9) -> bytes:
    """As permessage-deflate has it, with no context."""
    compress = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (compress.compress(payload) + compress.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


@dataclass(frozen=True)
class Received:
    """One frame of the gateway. They are never fragmented."""

    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    def json(self) -> Any:
        if self.first & RSV1:
            return json.loads(zlib.decompressobj(-15).decompress(self.payload + b"\0\0\xff\xff"))
        return json.loads(self.payload)


class ByHand:
    """A connection."""

    def __init__(self, url: str, headers: Iterable[tuple[str, str]] = ()):
        address = urlsplit(url)
        self.tcp = socket.create_connection((address.hostname, address.port), PATIENCE)
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.tcp.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {address.path} HTTP/1.1",
            f"Host: {address.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self.tcp.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self.stream.readline()
        assert b" 101 " in status, status
        self.headers: dict[str, str] = {}
        while line := self.stream.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()

    def __enter__(self) -> "ByHand":
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stream.close()
        self.tcp.close()

    def send(self, data: bytes, chop: int = 0) -> None:
        """All at once, or in writes of so many bytes."""
        try:
            for start in range(0, len(data), chop or len(data)):
                self.tcp.sendall(data[start : start + chop] if chop else data)
        except (BrokenPipeError, ConnectionResetError):
            # Closed by the gateway, as what it has sent before will tell.
            pass

    def receive(self) -> Received | None:
        """The next frame; nothing at the end."""
        head = self.stream.read(2)
        if not head:
            return None
        first, length = head
        assert length < 0x80, "a server does not mask"
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
        return Received(first, self.stream.read(length))
