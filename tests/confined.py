"""Becomes a command under those restrictions of a systemd unit that a process can put on itself: `confined.py UNIT COMMAND...`

Capabilities, system calls and what they may be asked for, in the same way as systemd does it: seccomp filters made with
libseccomp, one a directive, of which the strictest wins. What needs a manager (mounts, users, control groups) is left out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

# <seccomp.h>
_ALLOW = 0x7FFF0000
_MASKED_EQUAL = 7
_EQUAL = 4
# <linux/capability.h>, <linux/prctl.h>, <linux/sched.h>, <linux/stat.h>, <sys/mman.h>, <sys/shm.h>
_PR_CAPBSET_DROP = 24
_LAST_CAPABILITY = 63
_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_SET_IDS = (0o4000, 0o2000)
_WRITE, _EXECUTE, _SHM_EXECUTE = 2, 4, 0o100000
_FAMILIES = 64
#: Which argument has the mode of a new or changed file.
_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2, "creat": 1}


def directives(unit: str, name: str) -> list[str]:
    """The values of all lines with that name, in order."""
    lines = (line.partition("=") for line in unit.splitlines() if not line.lstrip().startswith("#"))
    return [value.strip() for key, equals, value in lines if equals and key.strip() == name]


def calls_of_group(group: str) -> set[str]:
    """The names in a group such as `@file-system`, as the systemd that is installed has it."""
    found = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = [line.strip() for line in found.stdout.splitlines()[1:] if not line.strip().startswith("#")]
    return expand(words)


def expand(words: Iterable[str]) -> set[str]:
    names: set[str] = set()
    for word in words:
        names |= calls_of_group(word) if word.startswith("@") else {word} if word else set()
    return names


def allowed_calls(unit: str) -> set[str]:
    """What SystemCallFilter= of the unit lets through: an allow-list, line by line added to and taken from."""
    allowed = calls_of_group("@default")
    for value in directives(unit, "SystemCallFilter"):
        words = expand(value.removeprefix("~").split())
        allowed = allowed - words if value.startswith("~") else allowed | words
    return allowed


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """What no rule is for gets `default`. Raises OSError where the kernel or the library refuses."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *compare: _Compare) -> None:
        """Calls that this machine or its library does not know are left out, as by systemd."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:
            compares = (_Compare * len(compare))(*compare)
            self._done(
                self._library.seccomp_rule_add_array(
                    self._filter, ctypes.c_uint32(action), number, len(compare), compares
                )
            )

    def load(self) -> None:
        self._done(self._library.seccomp_load(self._filter))

    def _done(self, result: int) -> None:
        if result < 0:
            raise OSError(-result, os.strerror(-result))


def _refuse(number: int) -> int:
    return 0x00050000 | number


def _masked(argument: int, bits: int) -> _Compare:
    return _Compare(argument, _MASKED_EQUAL, bits, bits)


def _no_write_and_execute(unit: str) -> Iterable[tuple[int, str, tuple[_Compare, ...]]]:
    if directives(unit, "MemoryDenyWriteExecute") == ["yes"]:
        refuse = _refuse(errno.EPERM)
        yield refuse, "mmap", (_masked(2, _WRITE | _EXECUTE),)
        yield refuse, "mprotect", (_masked(2, _EXECUTE),)
        yield refuse, "pkey_mprotect", (_masked(2, _EXECUTE),)
        yield refuse, "shmat", (_masked(2, _SHM_EXECUTE),)


def _no_other_families(unit: str) -> Iterable[tuple[int, str, tuple[_Compare, ...]]]:
    names = [name for value in directives(unit, "RestrictAddressFamilies") for name in value.split()]
    allowed = {int(getattr(socket, name)) for name in names}
    for family in set(range(_FAMILIES)) - allowed if names else ():
        yield _refuse(errno.EAFNOSUPPORT), "socket", (_Compare(0, _EQUAL, family, 0),)


def _no_namespaces(unit: str) -> Iterable[tuple[int, str, tuple[_Compare, ...]]]:
    if directives(unit, "RestrictNamespaces") == ["yes"]:
        yield _refuse(errno.EPERM), "setns", ()
        # Its flags are in memory, where no filter sees them; the C library then asks for clone().
        yield _refuse(errno.ENOSYS), "clone3", ()
        for flag in _NAMESPACES:
            yield _refuse(errno.EPERM), "clone", (_masked(0, flag),)
            yield _refuse(errno.EPERM), "unshare", (_masked(0, flag),)


def _no_set_ids(unit: str) -> Iterable[tuple[int, str, tuple[_Compare, ...]]]:
    if directives(unit, "RestrictSUIDSGID") == ["yes"]:
        for call, argument in _MODES.items():
            for bit in _SET_IDS:
                yield _refuse(errno.EPERM), call, (_masked(argument, bit),)


_RESTRICTIONS: tuple[Callable[[str], Iterable[tuple[int, str, tuple[_Compare, ...]]]], ...] = (
    _no_write_and_execute,
    _no_other_families,
    _no_namespaces,
    _no_set_ids,
)


def confine(unit: str) -> None:
    """Put the unit's restrictions on this process, for good."""
    allowed = allowed_calls(unit)
    if directives(unit, "CapabilityBoundingSet") == [""]:
        library = ctypes.CDLL(None)
        for capability in range(_LAST_CAPABILITY + 1):
            library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    for restriction in _RESTRICTIONS:
        filter = _Filter(_ALLOW)
        for action, call, compare in restriction(unit):
            filter.rule(action, call, *compare)
        filter.load()
    (number,) = directives(unit, "SystemCallErrorNumber")
    filter = _Filter(_refuse(getattr(errno, number)))
    for call in sorted(allowed):
        filter.rule(_ALLOW, call)
    filter.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execv(sys.argv[2], sys.argv[2:])
