"""One process to a folder: a lock that the kernel gives back however the process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from p2pfl.errors import StorageError


class FolderLock:
    """Held from its making until close(), or until the process is gone. The file says by which process.

    StorageError if another holds it; OSError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 20).decode(errors="replace").strip()
            self.close()
            by = f"process {holder}" if holder.isdecimal() else "another process"
            raise StorageError(
                f"the state directory {path.parent} is in use by {by}; stop that, "
                "or choose another with --state-dir"
            ) from error
        except OSError:
            self.close()
            raise
        # For people alone: that it cannot be written, on a full disk, hurts nobody.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """May be called more than once. The file stays: or two processes could lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
