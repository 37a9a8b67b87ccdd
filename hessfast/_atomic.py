"""Files that are written whole or not at all, and by one process at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_claimed: set[BinaryIO] = set()
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


def publish(file: BinaryIO, temporary: Path, path: Path, chunks: Iterable[bytes]) -> None:
    """Fill the open temporary file, sync it and give it its name; after a crash `path` is whole, or what it was."""
    try:
        file.truncate(0)
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        said = f"The disk of {path} is full. Free some and run the same command again to go on"
        raise OSError(error.errno, said) from None
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name is durable only now
    finally:
        os.close(folder)


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file whole, after any other process that is writing it; a full disk leaves no half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    with claim(temporary, wait=True) as file:
        assert file is not None
        publish(file, temporary, path, chunks)


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Names the folder where it cannot be made or written."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise OSError(error.errno, f"{folder} must be a folder that can be written; choose another") from None


def json_bytes(value: Any) -> bytes:
    """JSON as files hold it."""
    return (json.dumps(value, indent=1) + "\n").encode()


def sealed_json(value: Any) -> bytes:
    """JSON that `read_sealed` can tell from an edited one: objects, by an entry "sha256"; nothing else has room."""
    value = json.loads(json.dumps(value))
    return json_bytes(value | {"sha256": json_checksum(value)} if isinstance(value, dict) else value)


def read_sealed(path: Path) -> Any:
    """What `sealed_json` was given, or the JSON of a file without a checksum; a ValueError if it is damaged."""
    value = json.loads(path.read_bytes())
    if isinstance(value, dict) and value.pop("sha256", None) not in (None, json_checksum(value)):
        raise ValueError(f"{path} is damaged: its checksum is not that of its content.")
    return value


def json_checksum(value: Any) -> str:
    """SHA-256 of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` gives it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, or on that where it would be made."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


@contextlib.contextmanager
def claim(temporary: Path, wait: bool) -> Iterator[BinaryIO | None]:
    """The temporary file, opened and locked for this claim alone; None if it is taken and we would have to wait.

    The lock belongs to the open file and dies with its process, however it ends: nothing is left to clean up, and
    a file left by a dead process is simply claimed again. What was not published when the claim ends is deleted.
    """
    while True:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            if not _lock(file, wait):
                yield None
                return
            # Its last holder may have published it while we waited: then the finished file is not ours to touch.
            if not _is(file, temporary):
                continue
            _claimed.add(file)
            try:
                yield file
            finally:
                _claimed.discard(file)
                if _is(file, temporary):
                    temporary.unlink()
            return


def _leave_claims() -> None:
    """A forked child would hold its parent's locks for as long as it lives."""
    if _claimed:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for file in _claimed:
            os.dup2(nowhere, file.fileno(), inheritable=False)  # closed, the number would be another file's
        os.close(nowhere)
        _claimed.clear()


os.register_at_fork(after_in_child=_leave_claims)


def _lock(file: BinaryIO, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise OSError(error.errno, "The file system must offer file locks; choose a folder on another") from None


def _is(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
