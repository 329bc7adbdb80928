"""Runs one command and ends it when the process that asked for it is gone. Run as a script, standard library only.

    python -I -S supervisor.py --link FD --owner PID --stop-signal N --grace SECONDS [--uid N --gid N] -- COMMAND...

Why a separate process: after `kill -9` of the owner no database may keep running, on macOS as on Linux. Linux'
PR_SET_PDEATHSIG alone does not suffice: it fires when the *thread* that started the child ends. The guard has one
thread, so here it is right, and covers the death of the guard itself.

The link is a socket. Guard to owner, in lines: `started PID`, `exited CODE`, `failed REASON`. Owner to guard:
`process N` (signal N to the command), `group N` (to all of its process group). End of file means: stop and leave.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

OWNER_CHECK_SECONDS = 1.0  # a fork of the owner may keep the link open after the owner's death
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def death_signal(number: int) -> Callable[[], None] | None:
    """Return the function to call between fork and exec so that the command gets this signal when the guard dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)

    return arrange


def signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    """Signal the command and whatever it left behind in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def end(child: subprocess.Popen[bytes], number: int, grace_seconds: float) -> None:
    """Ask the command to stop, wait, then kill its whole group."""
    child.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_seconds)
    signal_group(child, signal.SIGKILL)
    child.wait()


def obey(line: str, child: subprocess.Popen[bytes]) -> None:
    """Carry out one line from the owner."""
    target, _, number = line.partition(" ")
    if target == "process":
        child.send_signal(int(number))
    elif target == "group":
        signal_group(child, int(number))


def watch(link: socket.socket, child: subprocess.Popen[bytes], wakeup: int, owner: int) -> None:
    """Relay signals and report the exit, until the owner closes the link or ends."""
    reported = False
    unread = b""
    while True:
        if not reported and child.poll() is not None:
            link.sendall(f"exited {child.returncode}\n".encode())
            reported = True
        readable, _, _ = select.select([link.fileno(), wakeup], [], [], OWNER_CHECK_SECONDS)
        if wakeup in readable and signal.SIGTERM in os.read(wakeup, 64):
            return
        if link.fileno() in readable:
            received = link.recv(4096)
            if not received:
                return
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                obey(line.decode(), child)
        if os.getppid() != owner:
            return


def main() -> int:
    """Start the command, watch it, and end it with the owner."""
    parser = argparse.ArgumentParser()
    for name, kind in (("link", int), ("owner", int), ("stop-signal", int), ("grace", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()

    link = socket.socket(fileno=asked.link)
    wakeup, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(
            asked.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            user=asked.uid,
            group=asked.gid,
            extra_groups=None if asked.uid is None else [],
            preexec_fn=death_signal(asked.stop_signal),  # noqa: PLW1509  one thread only, so it cannot deadlock
        )
    except OSError as error:
        link.sendall(f"failed {error.strerror or error}: {asked.command[0]}\n".encode())
        return 1
    try:
        link.sendall(f"started {child.pid}\n".encode())
        watch(link, child, wakeup, asked.owner)
    except OSError:
        pass  # the owner ended while a line was sent
    finally:
        begun = time.monotonic()
        end(child, asked.stop_signal, asked.grace)
        print(f"guard: stopped {asked.command[0]} in {time.monotonic() - begun:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
