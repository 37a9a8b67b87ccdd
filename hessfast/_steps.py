"""A folder in which the steps of a job are kept, each as soon as it is made."""

import contextlib
import errno
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hessfast import _atomic, _distributed

# What NumPy and zipfile say of files with a bit or an end missing; NotImplementedError is a RuntimeError.
_DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, BadZipFile, zlib.error)
_BESIDE = {"command.json", "encoders"}  # what may be there before the first step


class Steps:
    """Makes a step once: later it is read, unless its file is damaged."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()

    def claim(
        self,
        settings: dict[str, Any],
        name: str = "settings.json",
        beside: Collection[str] = _BESIDE,
        remedy: str = "Choose another.",
    ) -> None:
        """Write the settings, or refuse a folder of others, saying which; any number of processes may do so at once.

        A folder without settings must be new: nothing may be in it but what is named by `beside`.
        """
        path, settings = self.folder / name, json.loads(json.dumps(settings))
        with self._first(path, path.exists) as publish:
            if publish:
                found = {each.name for each in self.folder.iterdir() if each.suffix != ".tmp"}.difference(beside)
                if found:
                    where = repr(str(self.folder))
                    raise ValueError(f"out must be a new folder or that of a run, got {where}. Choose another.")
                publish([_atomic.json_bytes(settings)])
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = None
        if not isinstance(before, dict) or not before:
            raise ValueError(f"{path} is damaged; delete the folder {self.folder} and run again, or choose another.")
        if before != settings:
            raise ValueError(
                f"out must be a new folder or that of the same run, got {str(self.folder)!r} with "
                f"{_difference(before, settings)}. {remedy}"
            )

    def share(self, name: str, content: bytes) -> None:
        """Write a file that every process would write alike: the first does, and makes a damaged one whole."""
        path = self.folder / name
        with self._first(path, lambda: path.exists() and path.read_bytes() == content) as publish:
            if publish:
                publish([content])

    def stream(self, name: str, make: Callable[[], Iterable[bytes]], source: str) -> Path:
        """A file that is made of a source piece by piece, by the first process that asks, and kept.

        NAME.json beside it holds its checksum, which is compared every time.
        """
        path = self.folder / name

        def seal() -> dict[str, Any]:
            return {"source": source, "bytes": path.stat().st_size, "file": _atomic.checksum(path)}

        with self._first(path, lambda: path.exists() and self.read(name) == seal()) as publish:
            if publish:
                publish(make())
                self.keep(name, seal())
        return path

    @contextlib.contextmanager
    def _first(
        self, path: Path, whole: Callable[[], bool], together: bool = False
    ) -> Iterator[Callable[[Iterable[bytes]], None] | None]:
        """What writes the file, while nobody else can; None if it is there and whole, perhaps after waiting for it.

        Ranks that make it `together` must not wait for each other: each writes it.
        """
        with _atomic.writable(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
        if whole():
            yield None
            return
        if together:
            yield lambda pieces: _atomic.write(path, pieces)
            return
        temporary = path.with_name(f"{path.name}.tmp")
        with _atomic.claim(temporary, wait=True) as file:
            if file is None or whole():
                yield None
            else:
                yield lambda pieces: _atomic.publish(file, temporary, path, pieces)

    def read(self, name: str) -> Any:
        """What was recorded; {} if nothing was, or its file is damaged."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return _atomic.read_sealed(self.folder / f"{name}.json")
        return {}

    def keep(self, name: str, value: dict[str, Any]) -> None:
        """Record a value in place of what was there."""
        self.write(f"{name}.json", _atomic.sealed_json(value))

    def record(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, by way of JSON; a second process waits for the first and reads it.

        Never {} or []: as files they count as damaged.
        """
        with self._first(self.folder / f"{name}.json", lambda: self.read(name) not in ({}, []), _in_group()) as publish:
            if publish:
                publish([_atomic.sealed_json(make())])
        return self.read(name)

    def arrays(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Likewise, by way of .npz."""
        path, kept = self.folder / f"{name}.npz", {}

        def whole() -> bool:
            kept.update(self.read_arrays(name))
            return bool(kept)

        with self._first(path, whole, _in_group()) as publish:
            if publish:
                kept.update(make())
                publish([_npz(kept)])
        return kept

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """What was kept; {} if nothing was, or its file is damaged."""
        try:
            with (self.folder / f"{name}.npz").open("rb") as raw, np.load(raw) as file:
                return dict(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EIO):
                raise
        except _DAMAGE:
            pass
        return {}

    def write_arrays(self, name: str | Path, arrays: dict[str, np.ndarray]) -> None:
        self.write(name, _npz(arrays))

    def write(self, name: str | Path, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _atomic.write(path, [content.encode() if isinstance(content, str) else content])


def _in_group() -> bool:
    """Whether others of a process group may have to take part in what is made."""
    return _distributed.ranks()[1] > 1


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What a .npy file begins with; its numbers follow in C order."""
    header = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    whole = io.BytesIO()
    np.savez(whole, **arrays)  # pyright: ignore[reportArgumentType]
    return whole.getvalue()


def _difference(before: Any, now: Any, path: str = "") -> str:
    """The first entry in which settings differ, and its two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    return f"{path} {_short(before)}, not {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
