"""Bi-encoders to begin a training from: a trained one, a plain BERT-like encoder with a pooling, or random weights."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from retgen.dense.encoder import PACKAGED, load_encoder
from retgen.errors import MissingExtraError, UsageError
from retgen.models.sources import SCRATCH, WARM

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["mean", "cls"]
Similarity = Literal["cosine", "dot"]


def begin_encoder(
    source: str,
    *,
    texts: Iterable[str] | None = None,
    pooling: Pooling = "mean",
    similarity: Similarity = "cosine",
    towers: int = 1,
    max_length: int | None = None,
    device: str | None = None,
) -> SentenceTransformer:
    """A bi-encoder ready to be trained.

    What is random in it is made by torch's generator: call ``torch.manual_seed`` first.

    Args:
        source: ``warm:minilm`` or ``warm:<hub id or folder>`` for a BERT-like encoder with a pooling of our own (the
            papers' way: ``warm:bert-base-uncased``); ``scratch:tiny``, ``scratch:mini`` or ``scratch:small`` for random
            weights; or a trained bi-encoder, see `retgen.dense.encoder.load_encoder`, which keeps its own pooling.
        texts: the corpus; ``scratch:`` trains a tokenizer on it.
        pooling: of ``warm:`` and ``scratch:``: the mean of the tokens' states, or the first token's (DPR, ANCE).
        similarity: of ``warm:`` and ``scratch:``: cosine, or the inner product (DPR, ANCE).
        towers: 1 reads questions and documents alike; 2 gives each an encoder of its own, which begin equal (DPR).
        max_length: longer texts are cut to so many tokens; the source's own by default.
        device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.

    Raises:
        UsageError: an unknown preset, no texts where they are needed, or towers other than 1 or 2.
        FormatError: there is no model of the kind that the source needs.
        MissingExtraError: a package is missing.
    """
    if towers not in (1, 2):
        raise UsageError(f"a bi-encoder has 1 tower or 2, not {towers}")
    try:
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "dense") from error
    from retgen.models.quiet import no_progress_bars

    with no_progress_bars():
        if source.startswith(SCRATCH):
            encoder = _from_scratch(source.removeprefix(SCRATCH), texts, pooling, similarity, device)
        elif source.startswith(WARM):
            encoder = _from_plain(source.removeprefix(WARM), pooling, similarity, device)
        else:
            encoder = load_encoder(source, device)
        if towers == 2:
            encoder = _with_two_towers(encoder)
    if max_length is not None:
        encoder.max_seq_length = min(max_length, encoder.max_seq_length or max_length)
    return encoder


def has_two_towers(encoder: SentenceTransformer) -> bool:
    """Whether questions and documents go different ways through a model."""
    from sentence_transformers.base.modules import Router

    return any(isinstance(module, Router) for module in encoder)


def _from_plain(name: str, pooling: Pooling, similarity: Similarity, device: str | None) -> SentenceTransformer:
    from retgen.models.sources import packaged_encoder
    from retgen.models.warm_start import require_encoder

    path = str(packaged_encoder() if name == PACKAGED else name)
    require_encoder(path)
    return _pooled(path, pooling, similarity, device)


def _from_scratch(
    preset: str, texts: Iterable[str] | None, pooling: Pooling, similarity: Similarity, device: str | None
) -> SentenceTransformer:
    from retgen.models.cross_encoder_sources import load_cross_encoder

    loaded, tokenizer = load_cross_encoder(f"{SCRATCH}{preset}", texts=texts)
    trunk: Any = loaded.base_model
    # sentence-transformers reads its modules from folders.
    with tempfile.TemporaryDirectory(prefix="retgen-encoder-") as folder:
        trunk.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return _pooled(folder, pooling, similarity, device)


def _pooled(path: str, pooling: Pooling, similarity: Similarity, device: str | None) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    transformer: Any = Transformer(path, config_kwargs={"trust_remote_code": False})
    modules = [transformer, PoolingModule(transformer.get_embedding_dimension(), pooling)]
    return SentenceTransformer(modules=modules, device=device, similarity_fn_name=similarity)


def _with_two_towers(encoder: SentenceTransformer) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    if has_two_towers(encoder):
        return encoder
    documents: list[Any] = list(encoder.children())
    router = Router.for_query_document(copy.deepcopy(documents), documents)
    return SentenceTransformer(
        modules=[router],
        device=str(encoder.device),
        prompts={name: text for name, text in encoder.prompts.items() if text is not None},
        similarity_fn_name=encoder.similarity_fn_name,
    )
