"""Makes ``requirements.lock``: every package of the ``dev`` extra, resolved in a fresh virtual environment.

torch is installed first and alone, at the version that was asked for, and everything else is resolved beside it. The
lock holds names and versions only: no local version suffix (``+cpu``), so that each machine takes the build it needs,
and no address.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^+\s]+)(\+\S+)?")


def pins(frozen: str) -> list[str]:
    """The lock's lines, torch first, from what ``pip freeze`` printed. Refuses a package that came from an address."""
    lines = []
    for line in frozen.splitlines():
        match = PIN.fullmatch(line.strip())
        if match is None:
            raise SystemExit(f"cannot pin {line!r}: it did not come from a package index by name and version")
        lines.append(f"{match['name']}=={match['version']}")
    return sorted(lines, key=lambda pin: (not pin.startswith("torch=="), pin.lower()))


def main() -> None:
    """Resolve and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="the torch version to resolve beside, e.g. 2.13.0")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not arguments.torch:
        parser.error("name the torch version: make lock TORCH=<version>")

    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [str(Path(folder) / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", f"torch=={arguments.torch}"], check=True)
        subprocess.run([*pip, "install", "--quiet", f"torch=={arguments.torch}", f"{ROOT}[dev]"], check=True)
        frozen = subprocess.run(
            [*pip, "freeze", "--all", "--exclude", "pip", "--exclude", "retgen"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    python = ".".join(platform.python_version_tuple()[:2])
    header = f"# Made by `make lock` on Python {python}, {platform.system()} {platform.machine()}.\n"
    header += "# torch comes first: it is installed in a step of its own.\n"
    arguments.out.write_text(header + "\n".join(pins(frozen)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
