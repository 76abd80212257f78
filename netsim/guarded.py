"""Becomes another program that the kernel kills as soon as the process that started it is gone.

    python -I -S guarded.py PARENT_PID PROGRAM ARGUMENT...

Run as a file, on the standard library alone, since it has to be quick. The wish outlives execve(2). Linux
takes the thread that forked for the parent: start this from one that lives as long as its program is needed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it died before the kernel knew of the wish
        sys.exit("the parent is gone")
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
