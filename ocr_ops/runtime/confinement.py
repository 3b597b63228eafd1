"""Confinement: what a process gives up for good, and its children with it: the network, and rights it does not have."""

import ctypes
import errno
import platform
import resource
import struct

_PR_SET_NO_NEW_PRIVS, _CLONE_NEWNET = 38, 0x40000000
_MACHINES = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
"""By their names: what filters know them by, and the numbers of their calls `seccomp` and `socket`."""
_IO_URING_SETUP = 425
"""On each of them. What it sets up makes sockets as well."""
_OTHERS = 0x40000000
"""From which on numbers are those of x32, another set of calls."""
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4
"""The latter: kernels before 5.16 would slow down all that a filtered process does."""
_LOAD, _EQUAL, _LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _MACHINE = 0, 4
"""Where a filter finds them."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def confine(libc: ctypes.CDLL) -> None:
    """Each as far as the system lets us: this process has no threads yet."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_CLONE_NEWNET)  # for root; what it has then is no network
    _make_no_socket(libc)  # for anyone, and for those of files as well
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _make_no_socket(libc: ctypes.CDLL) -> None:
    """Has the kernel refuse what makes one. Those there are can be used, and pairs be made."""
    known = _MACHINES.get(platform.machine())
    if known is None:
        return
    machine, seccomp, make = known
    # The last two numbers: how many steps to leave out if it is so, and if not.
    steps = (
        (_LOAD, _MACHINE, 0, 0),
        (_EQUAL, machine, 0, 5),
        (_LOAD, _NUMBER, 0, 0),
        (_LEAST, _OTHERS, 3, 0),
        (_EQUAL, make, 2, 0),
        (_EQUAL, _IO_URING_SETUP, 1, 0),
        (_RETURN, _ALLOW, 0, 0),
        (_RETURN, _REFUSE, 0, 0),
    )
    packed = b"".join(struct.pack("=HBBI", code, yes, no, value) for code, value, yes, no in steps)
    told = ctypes.byref(_Filter(len(steps), packed))
    libc.syscall(ctypes.c_long(seccomp), ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_SPEC_ALLOW), told)
