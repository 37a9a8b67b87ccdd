"""What a long job says on stderr where no terminal shows its bars."""

import sys


def tell(sentence: str) -> None:
    """A line for a log; on a terminal nothing, for a bar says it there."""
    if not sys.stderr.isatty():
        print(sentence, file=sys.stderr, flush=True)
