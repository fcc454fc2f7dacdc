"""What ``retgen demo --out`` leaves for ``retgen serve``: an index of the almanac, and a YAML that names the models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PIPELINE = "pipeline.yaml"
INDEX = "almanac"


def write_pipeline(place: Path, trained: Mapping[str, Path], reranking: Mapping[str, Path]) -> Path:
    """An index, and ``pipeline.yaml`` over it and the models that the demo trained; paths are relative to ``place``.

    Args:
        place: the demo's folder.
        trained: kind of stage → its finished folder, of the row that UniGen has.
        reranking: the same of JPR's row. Kinds that a recipe has not are left out.

    Returns:
        The YAML's path.
    """
    import yaml

    from retgen.corpus import Corpus
    from retgen.index import Index
    from retgen.store import write_atomic

    place = place.resolve()
    # Of the very corpus that the model was trained on: it opens over no other.
    corpus = Corpus.open(trained["almanac-collection"] / "corpus")
    Index.build(corpus, place / INDEX, overwrite=True)
    models = {
        "model": (trained, "unigen-train", "unigen"),
        "cross_encoder": (reranking, "cross-encoder-train", "cross-encoder"),
        "generator": (reranking, "query-generator-train", "query-generator"),
    }
    content: dict[str, Any] = {"index": INDEX}
    for name, (folders, kind, folder) in models.items():
        if kind in folders:
            content[name] = str((folders[kind] / folder).resolve().relative_to(place))
    if "combination" in reranking:
        tuning = json.loads((reranking["combination"] / "tuning.json").read_text(encoding="utf-8"))
        content["generator_weight"] = tuning["generator_weight"]
        # As many as the demo re-ranks, and as the weight was chosen for.
        content["candidates"] = 10
    path = place / PIPELINE
    write_atomic(path, "# Written by retgen demo, for retgen serve.\n" + yaml.safe_dump(content, sort_keys=False))
    return path
