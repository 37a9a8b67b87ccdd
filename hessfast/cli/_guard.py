"""How a command ends: errors in a sentence on stderr, 2 for bad input, 1 for a failure while running; files told."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import typer


def guard(command: Callable) -> Callable:
    @functools.wraps(command)
    def guarded(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError) as error:
            _fail(str(error), 2)
        except FileNotFoundError as error:  # of the system, with a file's name, or in our own words
            unknown = f"{error.filename} is not there and cannot be made; choose another path"
            _fail(unknown if error.filename else str(error), 2)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            _fail(f"{error.strerror or error}{where}", 1)
        except (RuntimeError, ImportError, ArithmeticError) as error:
            _fail(str(error), 1)
        except MemoryError as error:
            _fail(str(error) or "Out of memory", 1)
        except KeyboardInterrupt as stop:
            _fail(str(stop) or "Interrupted", 130)
        except _damage() as error:
            _fail(f"A safetensors file is damaged: {error}", 1)

    return guarded


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Work whose parts are kept in a folder: Ctrl-C says what stays, if something does."""
    try:
        yield
    except KeyboardInterrupt:
        stays = (
            f"what is done stays in {folder}. Go on with the same command" if folder.exists() else "nothing was made"
        )
        raise KeyboardInterrupt(f"Interrupted; {stays}") from None


def tell_files(folder: Path, names: Iterable[str]) -> None:
    """Say which of those files and folders there are."""
    typer.echo(f"In {folder}: {', '.join(name for name in names if (folder / name).exists())}.")


def _damage() -> type[Exception]:
    """Called only when something is raised that nothing else here is about."""
    from safetensors import SafetensorError

    return SafetensorError


def _fail(sentence: str, code: int):
    typer.echo(f"hessfast: {sentence.rstrip('.')}.", err=True)
    raise typer.Exit(code)
