"""A process that changes a UniGen's documents until it is killed: ``python -m tests.generative.unigen_writer FOLDER``.

Which change comes when is fixed, so that whoever killed it knows what must be there.
"""

from __future__ import annotations

import sys

from retgen.generative import UniGen

WORDS = ("iron", "gold", "nile", "mars", "moon", "paris", "bell")


def docid(number: int) -> str:
    return f"{WORDS[number % 7]} {WORDS[number % 5]} {number % 3}"


def after(changes: int) -> dict[str, str]:
    """Documents added and still there after so many changes: each adds one, and every second removes the one before."""
    gone = {number - 1 for number in range(1, changes, 2)}
    return {f"new-{number}": docid(number) for number in range(changes) if number not in gone}


def change(system: UniGen, number: int) -> None:
    """The change after so many, in one or two steps; every fourth time the folder is written anew."""
    if f"new-{number}" not in system.docids:
        system.add([(f"new-{number}", docid(number))])
    if number % 2 and f"new-{number - 1}" in system.docids:
        system.remove([f"new-{number - 1}"])
    if number % 4 == 3:
        system.save(sys.argv[1], overwrite=True)


def main() -> None:
    with UniGen.open(sys.argv[1], write=True, device="cpu") as system:
        number = int(sys.argv[2])
        print("ready", flush=True)
        while True:
            change(system, number)
            number += 1
            print(number, flush=True)


if __name__ == "__main__":
    main()
