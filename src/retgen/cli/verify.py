"""``retgen verify``: is a folder whole?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.running import results, write_json


def verify(
    path: Annotated[
        Path, typer.Argument(help="An index, corpus or model folder that retgen made.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Read every file of a folder and compare it with the checksums written when it was made.

    Example:

      retgen verify my-index
    """
    from retgen import store

    manifest = store.verify(path)
    size = sum(entry.size for entry in manifest.files.values())
    if as_json:
        write_json(
            {
                "path": str(path),
                "kind": manifest.kind,
                "files": len(manifest.files),
                "bytes": size,
                "retgen_version": manifest.retgen_version,
                "made_by": dict(manifest.made_by),
                "whole": True,
            }
        )
        return
    results().print(
        f"{path}: whole ({manifest.kind}, {len(manifest.files)} files, {size:,} bytes, "
        f"made by retgen {manifest.retgen_version})",
        markup=False,
    )
