"""Errors as a user sees them: one sentence on stderr, 2 for bad input, 1 for a failure while running."""

import functools
from collections.abc import Callable

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


def _damage() -> type[Exception]:
    """Called only when something is raised that nothing else here is about."""
    from safetensors import SafetensorError

    return SafetensorError


def _fail(sentence: str, code: int):
    typer.echo(f"hessfast: {sentence.rstrip('.')}.", err=True)
    raise typer.Exit(code)
