"""Hosts of one machine: network namespaces with an address and a name each, and the wire between them.

The wire is a thread that carries each IP packet from one host's TUN device to the other's, later or never. So each way
between two hosts can be cut for itself, silently, as by a firewall that drops; no kernel module is needed, nothing is
left behind when the process ends, and the TCP of every host is the kernel's own.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, Self

NETWORK: Final = "10.66.0."
NETMASK: Final = "255.255.255.0"

_DEVICE: Final = b"eth0"
_NAMESPACES: Final = {"net": 0x40000000, "uts": 0x04000000}  # linux/sched.h: CLONE_NEWNET, CLONE_NEWUTS
_TUNSETIFF, _TUN_NO_PI = 0x400454CA, 0x1001  # linux/if_tun.h
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C  # linux/sockios.h
_UP_RUNNING: Final = 0x41
_IPV4: Final = 4
_PACKET_BYTES: Final = 65536
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NoNamespaces(Exception):
    """This machine lets this user make no hosts; the text says what is missing."""


def _called(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _namespaces() -> list[int]:
    """The namespaces of this thread, each as an open file."""
    return [os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _NAMESPACES]


def _enter(namespaces: list[int]) -> None:
    for descriptor, kind in zip(namespaces, _NAMESPACES.values(), strict=True):
        _called(_LIBC.setns(descriptor, kind), "setns")


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Host:
    """One host. What a thread starts or opens `inside` is there for good."""

    def __init__(self, name: str, number: int) -> None:
        """Make it; `number` is the last part of its address."""
        self.name = name
        self.address = f"{NETWORK}{number}"
        before = _namespaces()
        try:
            _called(_LIBC.unshare(sum(_NAMESPACES.values())), "unshare")
            self._namespaces = _namespaces()
            try:
                socket.sethostname(name)
                self.device = self._open_device()
            finally:
                _enter(before)
        finally:
            _close(before)

    def _open_device(self) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE, _TUN_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for request, address in ((_SIOCSIFADDR, self.address), (_SIOCSIFNETMASK, NETMASK)):
                value = struct.pack("16sHH4s16x", _DEVICE, socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(any_socket, request, value)
            for name in (b"lo", _DEVICE):
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name, _UP_RUNNING))
        return device

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the processes and threads that it starts, be on this host."""
        before = _namespaces()
        try:
            _enter(self._namespaces)
            try:
                yield
            finally:
                _enter(before)
        finally:
            _close(before)

    def close(self) -> None:
        """The host ends with its last process."""
        _close([self.device, *self._namespaces])


class Network:
    """The hosts and the wire. A way is a pair of names: from, to."""

    def __init__(self, names: tuple[str, ...], dice: random.Random, *, delay_seconds: float, loss: float) -> None:
        """Make all hosts.

        Args:
            dice: of it each way gets its own delay, and each packet its fate.
            delay_seconds: the longest delay of a way; one way has the same delay always, so packets keep their order.
            loss: the probability with which a packet is lost, 0 to 1.

        Raises:
            NoNamespaces: the kernel or the user's rights do not allow it.
        """
        self.dice = dice
        self.loss = loss
        self.cut: frozenset[tuple[str, str]] = frozenset()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.carried: Counter[tuple[str, str]] = Counter()
        self.hosts: dict[str, Host] = {}
        try:
            for number, name in enumerate(names, 1):
                self.hosts[name] = Host(name, number)
        except OSError as error:
            self._close_hosts()
            raise NoNamespaces(
                f"no network namespaces here (Linux, root and /dev/net/tun are needed): {error}"
            ) from error
        self._delays = {(a, b): dice.uniform(0, delay_seconds) for a in names for b in names}
        self._stop, self._stopped = os.pipe()
        self._wire = threading.Thread(target=self._carry, name="wire", daemon=True)

    def __enter__(self) -> Self:
        self._wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopped)
        self._wire.join()
        os.close(self._stop)
        self._close_hosts()

    def _close_hosts(self) -> None:
        for host in self.hosts.values():
            host.close()

    def heal(self) -> None:
        """All ways are open again. Losses and delays stay."""
        self.cut = frozenset()

    def _carry(self) -> None:
        names = {host.device: name for name, host in self.hosts.items()}
        at = {socket.inet_aton(host.address): host for host in self.hosts.values()}
        on_their_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while True:
            wait = max(0.0, on_their_way[0][0] - time.monotonic()) if on_their_way else None
            ready, _, _ = select.select([self._stop, *names], [], [], wait)
            if self._stop in ready:
                return
            for device in ready:
                packet = os.read(device, _PACKET_BYTES)
                to = at.get(packet[16:20]) if packet[0] >> 4 == _IPV4 else None
                if to is None:
                    continue
                way = (names[device], to.name)
                if way in self.cut or self.dice.random() < self.loss:
                    self.dropped[way] += way in self.cut
                    continue
                self.carried[way] += 1
                number += 1
                heapq.heappush(on_their_way, (time.monotonic() + self._delays[way], number, to.device, packet))
            while on_their_way and on_their_way[0][0] <= time.monotonic():
                *_, device, packet = heapq.heappop(on_their_way)
                with contextlib.suppress(BlockingIOError):  # the queue of its host is full
                    os.write(device, packet)
