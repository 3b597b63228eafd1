"""A confined process can do what decoders do, and reach nobody."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, socket
from ocr_ops.runtime.confinement import confine

{before}
confine(ctypes.CDLL(None))

def refused(make):
    try:
        make().close()
    except PermissionError:
        return True
    return False

assert refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
assert refused(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
assert refused(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
assert ctypes.CDLL(None).syscall(425, 1, 0) == -1
one, other = socket.socketpair()
child = os.fork()
if not child:
    one.send(b"child" if refused(socket.socket) else b"")
    os._exit(0)
assert other.recv(9) == b"child"
os.waitpid(child, 0)
os.close(os.memfd_create("page"))
"""


@pytest.mark.parametrize("before", ["", "os.geteuid() or (os.setgid(65534), os.setuid(65534))"])
def test_a_confined_process_makes_no_socket(before: str) -> None:
    """Whoever it is run by, without any rights. Its children make none either."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(before=before)], check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
