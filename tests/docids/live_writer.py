"""A process that changes live docids until it is killed; run as ``python -m tests.docids.live_writer FOLDER FIRST``.

Which change comes when is fixed, so that whoever killed it knows what must be there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from retgen.docids.live import LiveDocids
from tests.docids.trees import EOS


def docid(number: int) -> list[int]:
    return [*(2 + number % base for base in (2, 3, 5)), 2 + number % 11, EOS][number % 2 :]


def after(changes: int) -> dict[str, list[int]]:
    """Documents and their docids after so many changes: one more is added each time, and mostly another goes."""
    gone = {number // 2 for number in range(changes) if number % 3}
    return {f"d{number}": docid(number) for number in range(changes + 1) if number not in gone}


def change(live: LiveDocids, number: int) -> None:
    """The change after so many: it turns ``after(number)`` into ``after(number + 1)``, in two steps."""
    gone = sorted(after(number).keys() - after(number + 1).keys())
    name = f"d{number + 1}"
    if name not in live:
        live.add_token_ids([(name, name, docid(number + 1))])
    live.remove([name for name in gone if name in live])
    if number % 4 == 3:
        live.merge()


def main() -> None:
    with LiveDocids.open(Path(sys.argv[1]), write=True) as live:
        number = int(sys.argv[2])
        while True:
            change(live, number)
            number += 1
            print(number, flush=True)


if __name__ == "__main__":
    main()
