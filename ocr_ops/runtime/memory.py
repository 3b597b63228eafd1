"""Memory: files that are in memory only, whole and sealed, for another process to see without a copy.

They are gone with the last process that has them open: a crash leaves nothing behind.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""It can no longer be cut short or changed under the reader's hands."""


@contextmanager
def sealed(data: bytes | memoryview) -> Iterator[int]:
    """The descriptor of a file that holds `data`, while the block runs."""
    number = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(number, left) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, SEALS)
        yield number
    finally:
        os.close(number)


def seen(number: int) -> mmap.mmap:
    """What the file of a descriptor holds. `ValueError` for one that could still change: that might end this process.

    The descriptor may be closed then.
    """
    try:
        kept = fcntl.fcntl(number, fcntl.F_GET_SEALS) == SEALS
    except OSError:  # no such file
        kept = False
    if not kept:
        msg = "not sealed"
        raise ValueError(msg)
    # Private, so that whoever gets it may write into it.
    return mmap.mmap(number, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
