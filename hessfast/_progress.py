"""What a long job says on stderr where no terminal shows its bars."""

import sys


def hidden(progress: bool) -> bool:
    """tqdm's `disable`: bars are for a terminal. Its lock starts a process from Python 3.14 on."""
    return not (progress and sys.stderr is not None and sys.stderr.isatty())


def tell(sentence: str) -> None:
    """A line for a log; on a terminal nothing, for a bar says it there."""
    if sys.stderr is not None and not sys.stderr.isatty():
        print(sentence, file=sys.stderr, flush=True)
