"""What happens in a folder, told by the kernel as it happens (Linux's inotify)."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path

# <sys/inotify.h>: a file is written, has come, has gone, has got or lost its name.
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_ALL = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE


class FolderEvents:
    """From its making on. A context manager. OSError if the folder cannot be watched."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _ALL) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))

    def __enter__(self) -> FolderEvents:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def wait(self, count: int, seconds: float) -> bool:
        """Until `count` more things have happened; False if that takes longer than so many seconds.

        What happens faster than it is read may be told as one.
        """
        for _ in range(count):
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return False
            os.read(self._descriptor, 65536)
        return True
