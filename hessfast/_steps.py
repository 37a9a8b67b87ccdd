"""A folder in which the steps of a job are kept, each as soon as it is made."""

import contextlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hessfast import _atomic

_BESIDE = {"command.json", "encoders"}  # what may be there before the first step


class Steps:
    """Makes a step once: later it is read, unless its file is damaged."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def claim(self, settings: dict[str, Any], name: str = "settings.json", beside: Collection[str] = _BESIDE) -> None:
        """Write the settings, or refuse a folder of others, saying which; any number of processes may do so at once.

        A folder without settings must be new: nothing may be in it but what is named by `beside`.
        """
        path, settings = self.folder / name, json.loads(json.dumps(settings))
        with self._first(path) as publish:
            if publish:
                found = {each.name for each in self.folder.iterdir() if each.suffix != ".tmp"}.difference(beside)
                if found:
                    where = repr(str(self.folder))
                    raise ValueError(f"out must be a new folder or that of a run, got {where}. Choose another.")
                publish([_bytes(json.dumps(settings, indent=1) + "\n")])
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = None
        if not isinstance(before, dict) or not before:
            raise ValueError(f"{path} is damaged; delete the folder {self.folder} and run again, or choose another.")
        if before != settings:
            raise ValueError(
                f"out must be a new folder or that of the same run, got {str(self.folder)!r} with "
                f"{_difference(before, settings)}. Choose another."
            )

    def share(self, name: str, content: bytes) -> None:
        """Write a file that every process would write alike: the first does, and makes a damaged one whole."""
        path = self.folder / name
        with self._first(path, content) as publish:
            if publish:
                publish([content])

    def stream(self, name: str, make: Callable[[], Iterable[bytes]]) -> Path:
        """A file that is made piece by piece, by the first process that asks, and kept."""
        path = self.folder / name
        with self._first(path) as publish:
            if publish:
                publish(make())
        return path

    @contextlib.contextmanager
    def _first(self, path: Path, content: bytes | None = None) -> Iterator[Callable[[Iterable[bytes]], None] | None]:
        """What writes the file, while nobody else can; None if it is there (and holds `content`, if that is known)."""

        def there() -> bool:
            return path.exists() and (content is None or path.read_bytes() == content)

        self.folder.mkdir(parents=True, exist_ok=True)
        if there():
            yield None
            return
        temporary = path.with_name(f"{path.name}.tmp")
        with _atomic.claim(temporary, wait=True) as file:
            if file is None or there():
                yield None
            else:
                yield lambda pieces: _atomic.publish(file, temporary, path, pieces)

    def record(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, by way of JSON; never {}, which damage may leave."""
        path = self.folder / f"{name}.json"
        with contextlib.suppress(FileNotFoundError, ValueError):
            if (found := json.loads(path.read_text())) != {}:
                return found
        text = json.dumps(make(), indent=1) + "\n"
        self.write(f"{name}.json", text)
        return json.loads(text)

    def arrays(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        path = self.folder / f"{name}.npz"
        with contextlib.suppress(FileNotFoundError, ValueError, EOFError, BadZipFile), np.load(path) as file:
            return dict(file)
        made = make()
        self.write_arrays(f"{name}.npz", made)
        return made

    def write_arrays(self, name: str | Path, arrays: dict[str, np.ndarray]) -> None:
        whole = io.BytesIO()
        np.savez(whole, **arrays)  # pyright: ignore[reportArgumentType]
        self.write(name, whole.getvalue())

    def write(self, name: str | Path, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _atomic.write(path, [_bytes(content)])


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


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
