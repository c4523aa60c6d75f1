"""Runs a command on two hosts of their own that this machine plays, with a network between them.

python benchmarks/two_hosts.py [--latency 0.5] [--ranks 2] [--vanish 20] -- python drivers/...

Each host is a network namespace with an address, a host name and a tunnel device. Packets from
one tunnel to the other wait here for the latency (ms, one way) that is asked, in order; TCP with
all its acknowledgements runs on top. mpirun starts on the first host and reaches the second
through the namespace instead of ssh, so Open MPI takes both for machines of a cluster: between
them ranks speak TCP, within one shared memory. With --vanish SECONDS nothing gets through any
more from then on, in neither direction, and no connection is ever closed: what a host that lost
its power looks like to the other.

Needs root and Linux with /dev/net/tun, ip (iproute2) and unshare. Exit code: the command's.
As launcher of a study:
drivers/scaling_study.py --launcher "python benchmarks/two_hosts.py --ranks {ranks} --" ...
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import os
import select
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET = 9000
"""Bytes of a packet at most, that of a cluster's Ethernet."""
ADDRESSES = "10.77.0.1", "10.77.0.2"
AFTERWARDS = 60.0
"""Seconds within which all processes of both hosts have to be gone once one vanished."""
AGENT = """#!/bin/sh
# Open MPI's remote shell: the last words are the host's address and its command.
address=$1; shift
host={prefix}-${{address##*.}}
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$0"; exec sh -c "$*"' "$host" "$@"
"""


def tunnel(name: str) -> int:
    """A new tunnel device's file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    wanted = struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(file, TUNSETIFF, wanted)
    return file


class Relay(threading.Thread):
    """Hands packets from either tunnel to the other, `latency` seconds later."""

    def __init__(self, files: list[int], latency: float) -> None:
        super().__init__(daemon=True)
        self.files, self.latency = files, latency
        self.connected, self.going = True, True

    def run(self) -> None:
        # A busy machine would add its own time slices to the latency.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        waiting: collections.deque[tuple[float, int, bytes]] = collections.deque()
        while self.going:
            now = time.perf_counter()
            while waiting and waiting[0][0] <= now:
                _, file, packet = waiting.popleft()
                if self.connected:
                    with contextlib.suppress(OSError):
                        os.write(file, packet)
            left = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else 0.05
            readable, _, _ = select.select(self.files, [], [], left)
            arrived = time.perf_counter()
            for file in readable:
                other = self.files[1 - self.files.index(file)]
                with contextlib.suppress(OSError):
                    packet = os.read(file, PACKET + 100)
                    waiting.append((arrived + self.latency, other, packet))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def processes(hosts: list[str]) -> list[int]:
    """Processes that run on either host."""
    found = []
    for host in hosts:
        listed = subprocess.run(
            ["ip", "netns", "pids", host], capture_output=True, text=True, check=True
        )
        found += [int(word) for word in listed.stdout.split()]
    return found


@contextlib.contextmanager
def two_hosts(prefix: str, latency: float) -> Iterator[tuple[list[str], Relay]]:
    """The hosts' names and what connects them; all of it is gone afterwards."""
    hosts = [f"{prefix}-{address.rsplit('.', 1)[1]}" for address in ADDRESSES]
    made: list[str] = []
    files: list[int] = []
    relay = None
    try:
        for host in hosts:
            ip("netns", "add", host)
            made.append(host)
        for host, own, other in zip(hosts, ADDRESSES, ADDRESSES[::-1], strict=True):
            files.append(tunnel(host))
            ip("link", "set", host, "netns", host)
            ip("-n", host, "addr", "add", own, "peer", other, "dev", host)
            ip("-n", host, "link", "set", host, "mtu", str(PACKET), "up")
            ip("-n", host, "link", "set", "lo", "up")
        relay = Relay(files, latency)
        relay.start()
        yield hosts, relay
    finally:
        for process in processes(made):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        if relay is not None:
            relay.going = False
            relay.join()
        for file in files:
            os.close(file)
        for host in made:
            ip("netns", "del", host)


def launched(
    hosts: list[str], ranks: int, command: list[str], folder: Path
) -> list[str]:
    """The words that start the command on both hosts."""
    agent = folder / "agent"
    agent.write_text(AGENT.format(prefix=hosts[0].rsplit("-", 1)[0]))
    agent.chmod(0o755)
    shares = [(ranks + 1) // 2, ranks // 2]
    places = ",".join(
        f"{address}:{share}" for address, share in zip(ADDRESSES, shares, strict=True)
    )
    network = f"{ADDRESSES[0]}/24"
    mpirun = ["mpirun", "-n", str(ranks), "--host", places, "--map-by", "slot"]
    mpirun += ["--mca", "plm_rsh_agent", str(agent)]
    mpirun += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,vader,self"]
    mpirun += ["--mca", "btl_tcp_if_include", network]
    mpirun += ["--mca", "oob_tcp_if_include", network]
    named = "hostname " + hosts[0] + "; exec " + shlex.join([*mpirun, *command])
    return ["ip", "netns", "exec", hosts[0], "unshare", "--uts", "sh", "-c", named]


def said_after(run: subprocess.Popen[bytes], hosts: list[str], since: float) -> None:
    """Prints when the run ended after a host had vanished, and what is still there."""
    try:
        run.wait(AFTERWARDS)
        print(f"mpirun ended after {time.monotonic() - since:.0f} s, code {run.wait()}")
    except subprocess.TimeoutExpired:
        print(f"mpirun has not ended after {AFTERWARDS:.0f} s")
    while processes(hosts) and time.monotonic() - since < AFTERWARDS:
        time.sleep(0.5)
    left = len(processes(hosts))
    print(f"processes left after {time.monotonic() - since:.0f} s: {left}")


def main() -> int:
    given = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given.add_argument("--latency", type=float, default=0.5, help="ms, one way")
    given.add_argument("--ranks", type=int, default=2)
    given.add_argument("--vanish", type=float, metavar="SECONDS")
    given.add_argument("command", nargs="+", help="after --")
    args = given.parse_args()
    missing = [word for word in ("ip", "unshare", "mpirun") if not shutil.which(word)]
    if os.geteuid() != 0 or missing:
        print("error: needs root" + "".join(f", {word}" for word in missing))
        return 2
    with (
        tempfile.TemporaryDirectory() as folder,
        two_hosts(f"npde{os.getpid() % 10000}", args.latency / 1e3) as (hosts, relay),
    ):
        words = launched(hosts, args.ranks, args.command, Path(folder))
        run = subprocess.Popen(words)
        if args.vanish is None:
            return run.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(args.vanish)
            print("the command had ended before a host vanished")
            return run.returncode
        relay.connected = False
        said_after(run, hosts, time.monotonic())
        ended = run.poll()
        return 1 if ended is None else ended


if __name__ == "__main__":
    sys.exit(main())
