import subprocess
import sys

# A signal that comes while the parent is in what Python calls after a fork: what is raised there is dropped.
INTERRUPTED = """
import os, signal
from p2pfl.learning.forked import fork_keeping_interrupts

parent = os.getpid()
os.register_at_fork(after_in_parent=lambda: os.kill(parent, signal.SIGINT))
try:
    if fork_keeping_interrupts() == 0:
        os._exit(0)
except KeyboardInterrupt:
    os.wait()
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_an_interrupt_amid_a_fork_is_raised_after_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")
