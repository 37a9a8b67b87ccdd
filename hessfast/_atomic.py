"""Files that are written whole or not at all."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def publish(file: BinaryIO, temporary: Path, path: Path, chunks: Iterable[bytes]) -> None:
    """Fill the open temporary file, sync it and give it its name; after a crash `path` is whole, or what it was."""
    file.truncate(0)
    file.writelines(chunks)
    file.flush()
    os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name is durable only now
    finally:
        os.close(folder)


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Publish a file of which this process is the only writer; nothing half-written stays when the disk is full."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            publish(file, temporary, path, chunks)
    finally:
        temporary.unlink(missing_ok=True)
