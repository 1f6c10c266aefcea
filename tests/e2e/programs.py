"""Starts programs, waits for what they say, and leaves none behind."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
TABLECAST = os.environ.get("TABLECAST", str(REPOSITORY / "target/debug/tablecast"))
NATS_SERVER = os.environ.get("NATS_SERVER", str(REPOSITORY / ".tools/bin/nats-server"))
WEED = os.environ.get("WEED", str(REPOSITORY / ".venv/bin/weed"))

# Far beyond what anything here takes, for machines that are busy.
PATIENCE = 30.0


def poll(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Looks until there is something to see."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {patience} s still not: {what}"
        time.sleep(0.02)
    return found


async def poll_async(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The same, while the tasks of this test go on."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {patience} s still not: {what}"
        await asyncio.sleep(0.02)
    return found


def free_port() -> int:
    """A port that nobody listened on a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that has ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in lists for child in children.read_text().split()]


class Program:
    """A process whose output goes to files, so that it never waits for us to read."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]):
        self.name = name
        self._stdout = directory / f"{name}.out"
        self._stderr = directory / f"{name}.err"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TABLECAST_")}
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env=inherited | dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def out(self) -> list[str]:
        return self._stdout.read_text().splitlines()

    def log(self) -> list[str]:
        return self._stderr.read_text(errors="replace").splitlines()

    def errors(self) -> list[str]:
        return [line for line in self.log() if " ERROR " in line]

    def wait_for_line(self, prefix: str, patience: float = PATIENCE) -> str:
        """What follows `prefix` on the first line of standard output that begins with it."""

        def look() -> str | None:
            ended = self.process.poll()
            found = [line for line in self.out() if line.startswith(prefix)]
            assert found or ended is None, f"{self.name} ended with {ended}: {self.log()[-5:]}"
            return found[0].removeprefix(prefix).strip() if found else None

        return poll(look, f"{self.name} prints {prefix!r}", patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended after {patience} s") from None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self, patience: float = PATIENCE) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait(patience)


class Programs:
    """Every program that a test has started."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.all: list[Program] = []

    def start(self, name: str, *command: str | Path, **environment: str) -> Program:
        number = sum(other.name.split("~")[0] == name for other in self.all)
        program = Program(
            name if number == 0 else f"{name}~{number}",
            [str(word) for word in command],
            self.directory,
            environment,
        )
        self.all.append(program)
        return program

    def tablecast(self, subcommand: str, *arguments: str | Path, **environment: str) -> Program:
        return self.start(subcommand, TABLECAST, subcommand, *arguments, **environment)

    def reap(self) -> None:
        """Ends what still runs, servers last, and the children that a killed program has left."""
        servers = [program for program in self.all if program.name.startswith(("nats-server", "seaweedfs"))]
        for group in ([program for program in self.all if program not in servers], servers):
            for program in group:
                program.process.terminate()
            deadline = time.monotonic() + 5
            for program in group:
                try:
                    program.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    print(f"{program.name} did not end in time")
                    program.process.kill()
                    program.process.wait()
        for pid in self.orphans():
            os.kill(pid, signal.SIGKILL)

    def orphans(self) -> list[int]:
        """What programs have started themselves: their arguments name this test's own directory."""
        ours = str(self.directory).encode()
        pids = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if ours in file.read_bytes() and int(file.parent.name) != os.getpid():
                    pids.append(int(file.parent.name))
            except OSError:
                continue
        return pids

    def report(self) -> str:
        """The end of each program's log, for a failed test."""
        tails = (f"--- {program.name}\n" + "\n".join(program.log()[-25:]) for program in self.all)
        return "\n".join(tails)


def run(*command: str | Path, patience: float = PATIENCE, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, which it must reach in time."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TABLECAST_")}
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        env=inherited | environment,
        check=False,
    )


def tablecast(*arguments: str | Path, **environment: str) -> str:
    """Runs a subcommand that must succeed; what it has printed."""
    done = run(TABLECAST, *arguments, **environment)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stderr}"
    return done.stdout
