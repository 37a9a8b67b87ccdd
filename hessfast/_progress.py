"""What a long job says on stderr where no terminal shows its bars."""

import sys


def hidden(progress: bool) -> bool:
    """tqdm's `disable`: bars are for a terminal."""
    return not (progress and _on_terminal())


def tell(sentence: str) -> None:
    """A line for a log; on a terminal nothing, for a bar says it there."""
    if sys.stderr is not None and not _on_terminal():
        print(sentence, file=sys.stderr, flush=True)


def _on_terminal() -> bool:
    return bool(getattr(sys.stderr, "isatty", bool)())
