"""What a long job says on stderr where no terminal shows its bars."""

import sys


def hidden(progress: bool) -> bool | None:
    """tqdm's `disable`: None, on a terminal alone; closed, stderr shows none."""
    return None if progress and sys.stderr is not None else True


def tell(sentence: str) -> None:
    """A line for a log; on a terminal nothing, for a bar says it there."""
    if sys.stderr is not None and not sys.stderr.isatty():
        print(sentence, file=sys.stderr, flush=True)
