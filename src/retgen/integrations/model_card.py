"""Model cards: the README.md of a model on a hub, written from what its folder says of itself.

What the folder does not know (licences, measures on a test set) is said by whoever publishes it; what nobody says is
written down as not stated. Paths of the machine it was trained on are not in it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from retgen import __version__, store
from retgen.errors import UsageError
from retgen.generative.history import read_history

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class About:
    """What a card says of one kind of model.

    Args:
        title: what it is.
        text: what it does, and what its scores mean.
        load: Python that loads it; ``{repo}`` is its name on the hub, ``{name}`` a folder for it.
        pipeline_tag: the hub's name of its task; None where the hub has none.
        tags: to be found by.
    """

    title: str
    text: str
    load: str
    pipeline_tag: str | None
    tags: tuple[str, ...]


ABOUT: Mapping[str, About] = {
    "unigen": About(
        "a UniGen: generative retrieval and question answering",
        "One encoder, two decoders: one writes the identifier of a passage, the other the answer. It finds passages of "
        "the collection it was trained on, and of no other; scores are log-probabilities (0 at most). Its answers are "
        "not read from the passages that it finds beside them.",
        """from retgen import Index, Query, open_unigen
from retgen.integrations.hub import pull_from_hub

system = open_unigen(pull_from_hub("{repo}", "{name}"), Index.open("my-index"))
run, answers = system.search_and_answer([Query("q1", "who discovered oxygen?")])""",
        None,
        ("generative-retrieval", "question-answering"),
    ),
    "unigen model": About(
        "the network of a UniGen, without docids",
        "One encoder, two decoders: one writes identifiers of passages, the other answers. It has no table of docids: "
        "train on from it, or build one.",
        """from retgen.integrations.hub import pull_from_hub
from retgen.models.saving import load_saved

model, tokenizer = load_saved(pull_from_hub("{repo}", "{name}"))""",
        None,
        ("generative-retrieval", "question-answering"),
    ),
    "cross-encoder": About(
        "a cross-encoder that orders passages",
        "It reads a question and a passage together. Scores are raw logits: compare them within one question.",
        """from retgen import BM25, CrossEncoder, Index

cross_encoder = CrossEncoder.from_pretrained("{repo}")
run = (BM25() >> cross_encoder).over(Index.open("my-index"))(["who discovered oxygen?"]).run""",
        "text-ranking",
        ("cross-encoder", "reranker"),
    ),
    "query generator": About(
        "a query generator, p(query | passage)",
        "It writes the questions a passage answers, and scores passages by how likely they are to be asked a question "
        "(log-probabilities). With a cross-encoder it is JPR.",
        """from retgen import BM25, Index, QueryLikelihood

likelihood = QueryLikelihood.from_pretrained("{repo}")
run = (BM25() >> likelihood).over(Index.open("my-index"))(["who discovered oxygen?"]).run""",
        None,
        ("query-generation", "reranker"),
    ),
    "bi-encoder": About(
        "a bi-encoder for dense retrieval",
        "It embeds questions and passages apart; their inner product is the score. sentence-transformers opens it too.",
        """from retgen import Document, Index

index = Index.build([Document("d1", "Oxygen was discovered by Joseph Priestley.")], "my-index", dense="{repo}")
index.retriever("dense")""",
        "sentence-similarity",
        ("sentence-transformers", "dense-retrieval"),
    ),
    "reader": About(
        "a reader that answers questions",
        "It answers from retrieved passages (FiD, RAG) or from what it learnt alone (closed book), and says how likely "
        "the answer is. Where it reads passages, it cites them.",
        """from retgen import BM25, Index, open_reader
from retgen.integrations.hub import pull_from_hub

reader = open_reader(pull_from_hub("{repo}", "{name}"))
answers = (BM25() >> reader).over(Index.open("my-index"))(["who discovered oxygen?"]).answers""",
        None,
        ("question-answering",),
    ),
}
"""By the kind of a model's folder."""


def model_card(
    folder: str | Path,
    repo_id: str,
    *,
    licence: str | None = None,
    data: str | None = None,
    data_licence: str | None = None,
    measures: Mapping[str, float] | None = None,
    training: Mapping[str, object] | None = None,
    base_model: str | None = None,
    language: str | None = None,
) -> str:
    """The card of a model: a YAML header that the hub reads, and Markdown for people.

    Args:
        folder: of a model that retgen trained.
        repo_id: its name on the hub, ``owner/name``.
        licence: of the weights, as the hub names it, e.g. ``apache-2.0``.
        data: what it was trained on, in words or as a data set's name.
        data_licence: of that, e.g. ``CC BY-SA 4.0``.
        measures: on questions it was not trained on, e.g. ``{"RR@10": 0.71}``.
        training: more about the training, or in the place of what the folder says.
        base_model: the hub's name of the checkpoint it was begun from.
        language: e.g. ``en``.

    Raises:
        ArtefactError: the folder is torn, or retgen did not make it.
        UsageError: the folder holds no model, e.g. an index; or ``repo_id`` is no name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise UsageError(f"a model on a hub is called owner/name, not {repo_id!r}")
    manifest = store.verify(folder)
    if manifest.kind not in ABOUT:
        raise UsageError(
            f"a model card is for a model, and this folder holds: {manifest.kind}",
            where=manifest.path,
            mend=f"Give a folder with one of: {', '.join(ABOUT)}",
        )
    about = ABOUT[manifest.kind]
    made_by = {**manifest.made_by, **(training or {})}
    parts = [
        f"---\n{_header(about, licence, base_model, language, data)}\n---",
        f"# {_text(repo_id.rpartition('/')[2])}: {about.title}",
        about.text,
        "## Load it",
        f"{len(manifest.files)} files with checksums, written by retgen {manifest.retgen_version}. With it installed:",
        f"```python\n{about.load.format(repo=repo_id, name=repo_id.rpartition('/')[2])}\n```",
        "## Trained on",
        _table(
            ("what", "value"),
            {
                "data": data or NOT_STATED,
                "licence of the data": data_licence or NOT_STATED,
                "fingerprint of the corpus": _fingerprint(manifest) or NOT_STATED,
                "seed": made_by.get("seed", NOT_STATED),
                "begun from": base_model or _base(made_by.get("source")),
            },
        ),
        "## Measures",
        _measures(manifest, measures),
        "## Settings of the training",
        _table(("setting", "value"), {name: value for name, value in sorted(made_by.items()) if value is not None})
        if made_by
        else "None are kept in the folder.",
        "## Limits",
        "What it learnt comes from its training data, with their errors and slants. Check an answer in its passage. "
        f"The licence of the weights: {_text(licence or NOT_STATED)}. That of the data may bind them too.",
        f"<sub>Written by retgen {__version__} from the folder's own manifest, digest `{manifest.digest[:16]}`.</sub>",
    ]
    return "\n\n".join(parts) + "\n"


def _header(about: About, licence: str | None, base_model: str | None, language: str | None, data: str | None) -> str:
    from huggingface_hub import ModelCardData

    named = data is not None and data.count("/") <= 1 and " " not in data
    return str(
        ModelCardData(
            library_name="retgen",
            license=licence,
            base_model=base_model,
            language=language,
            datasets=[data] if named and data is not None else None,
            pipeline_tag=about.pipeline_tag,
            tags=["retgen", *about.tags],
        ).to_yaml()
    )


def _fingerprint(manifest: store.Manifest) -> object:
    if manifest.kind == "unigen":
        from retgen.generative.folder import trained_table

        return trained_table(manifest.path).corpus_fingerprint
    return manifest.made_by.get("corpus")


def _measures(manifest: store.Manifest, measures: Mapping[str, float] | None) -> str:
    parts = []
    if measures:
        parts.append(_table(("measure", "on questions it was not trained on"), dict(measures)))
    measured = [row for row in read_history(manifest.path) if any(name.startswith("eval_") for name in row)]
    if measured:
        last = {name.removeprefix("eval_"): value for name, value in measured[-1].items() if name.startswith("eval_")}
        parts.append(f"While it was trained, on dev questions, last at step {measured[-1].get('step', 0):.0f}:")
        parts.append(_table(("measure", "on dev questions"), dict(last)))
    return "\n\n".join(parts) or f"Measures are {NOT_STATED}."


def _table(heads: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {_text(name)} | {_text(_shown(value))} |" for name, value in rows.items())])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return _without_folders(str(value))


def _base(source: object) -> str:
    return NOT_STATED if not isinstance(source, str) else source


def _without_folders(text: str) -> str:
    """The last name of an absolute path; other texts as they are."""
    for kind in (PurePosixPath, PureWindowsPath):
        if (path := kind(text)).is_absolute():
            return path.name or NOT_STATED
    return text


def _text(value: str) -> str:
    """A text that stands in a table's cell as it is: on one line, no markup of it works."""
    return html.escape(" ".join(value.split()), quote=False).translate({ord(mark): f"\\{mark}" for mark in "\\|`*[]!"})
