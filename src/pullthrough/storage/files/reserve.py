"""A little of the disk, kept so that a full one can still be emptied: whoever evicts has to write to the catalog first."""

from __future__ import annotations

import os
from pathlib import Path

from pullthrough.storage.files.folder import is_full

_MOST_BYTES = 4 * 1024 * 1024
#: Of a small disk it is this part.
_SHARE = 24


class Reserve:
    """One file of the data folder, shared by all workers. Any thread."""

    def __init__(self, path: Path, disk_bytes: int) -> None:
        self.size_bytes = min(_MOST_BYTES, disk_bytes // _SHARE)
        self._path = path
        self.restore()

    def release(self) -> None:
        """Give the room back to the disk, for the catalog to use."""
        os.truncate(self._path, 0)

    def restore(self) -> bool:
        """Take it again; False where there is not enough, and then nothing is taken."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError as error:
            if not is_full(error):
                raise
            os.ftruncate(descriptor, 0)
            return False
        finally:
            os.close(descriptor)
        return True
