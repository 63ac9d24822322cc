"""Where the `snt` command starts: what it is made of comes with the extra `book`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say in one line what has to be installed for it, with exit code 2."""
    try:
        from snt_core.cli import main as run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "snt_core":
            raise
        print(f'snt: {missing} is missing: pip install "snt-core[book]"', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # before the command listens: nothing has begun
        sys.exit(130)
    run()
