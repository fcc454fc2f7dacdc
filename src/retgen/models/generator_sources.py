"""Where a query generator p(query | passage) comes from, by one name: a checkpoint, an encoder, a folder, nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from retgen import store
from retgen.errors import FormatError, UsageError
from retgen.models.config import UniGenConfig
from retgen.models.pretrained import copy_weights, load_tokenizer, load_weights, model_type
from retgen.models.prompt_format import end_token_id
from retgen.models.saving import save_folder, whole_model
from retgen.models.scratch import EOS, PAD, find_preset, stack_shape, train_tokenizer
from retgen.models.sources import PACKAGED, SCRATCH, WARM, packaged_encoder
from retgen.models.token_statistics import count_tokens
from retgen.models.warm_generator import QueryGeneratorConfig, QueryGeneratorModel
from retgen.models.warm_start import decoder_shape, encoder_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KIND = "query generator"
WARM_OPTIONS = ("copy_head", "frozen_encoder", "encoder_layers", "decoder_layers", "d_ff", "dropout")
SCRATCH_OPTIONS = ("dropout",)
SAVED_OPTIONS = ("copy_head", "frozen_encoder")


def load_generator(
    source: str, *, texts: Iterable[str] | None = None, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A query generator ready to be trained or asked, with its tokenizer.

    What is random in it is made by torch's generator: call ``torch.manual_seed`` first.

    Args:
        source: a hub id or folder of an encoder-decoder (T5, BART, …: the paper's way); ``warm:minilm`` or
            ``warm:<hub id or folder>`` for a BERT-like encoder with a fresh decoder; ``scratch:tiny``, ``scratch:mini``
            or ``scratch:small`` for a small T5 with random weights and a tokenizer trained on the corpus; or a folder
            that `save_generator` wrote.
        texts: the corpus' texts, and the questions' if there are any; needed by ``scratch:`` and ``warm:``, which read
            them once.
        options: with ``warm:`` those of `warm_generator`; with ``scratch:`` ``dropout``. With a folder of a model that
            came from ``warm:``, ``frozen_encoder`` may be changed, and ``copy_head`` must be its own.

    Returns:
        The model in evaluation mode, in fp32 (a saved one in the type it was saved with).

    Raises:
        UsageError: an unknown preset or option, or no texts where they are needed.
        FormatError: no model of the kind that the source needs is there.
        ArtefactError: a saved generator is torn.
        MissingExtraError: ``warm:minilm`` without its package.
    """
    if source.startswith(SCRATCH):
        _check_options(options, SCRATCH_OPTIONS, source)
        return scratch_generator(source.removeprefix(SCRATCH), _needed(texts, source), **options)
    if source.startswith(WARM):
        _check_options(options, WARM_OPTIONS, source)
        name = source.removeprefix(WARM)
        path = packaged_encoder() if name == PACKAGED else name
        return warm_generator(path, _needed(texts, source), **options)
    if (Path(source) / store.MANIFEST).exists() or model_type(source) == QueryGeneratorConfig.model_type:
        return _trained_before(source, options)
    _check_options(options, (), source)
    return _from_checkpoint(source), load_tokenizer(source)


def warm_generator(
    path: str | Path,
    texts: Iterable[str],
    *,
    copy_head: bool = True,
    frozen_encoder: bool = False,
    encoder_layers: int | None = None,
    decoder_layers: int = 2,
    d_ff: int = 1024,
    dropout: float = 0.0,
) -> tuple[QueryGeneratorModel, PreTrainedTokenizerBase]:
    """A generator with a BERT-like checkpoint's encoder, and its tokenizer.

    Embeddings and output head are the encoder's word embeddings; the output bias is the log unigram frequency of the
    texts' tokens. The decoder is a T5 stack of the encoder's width; torch's generator makes its weights.

    Args:
        path: a folder or hub id.
        texts: read once, as a stream.
        copy_head: mix a distribution over the passage's tokens into the decoder's.
        frozen_encoder: train the decoder, the output bias and the copy head only.
        encoder_layers: keep the lowest so many of the encoder's; all by default.
        decoder_layers: of the decoder.
        d_ff: width of the decoder's gated feed-forward layers.
        dropout: of encoder and decoder.

    Raises:
        FormatError: no BERT-like encoder can be loaded from there.
        UsageError: no texts, or more layers than there are.
    """
    tokenizer = load_tokenizer(path)
    parts = encoder_parts(path, tokenizer, layers=encoder_layers, dropout=dropout)
    words = parts.words
    if len(tokenizer) > words.num_embeddings:
        raise FormatError(
            f"its tokenizer has {len(tokenizer)} tokens, and it has embeddings for {words.num_embeddings}", where=path
        )
    end = end_token_id(tokenizer)
    model = QueryGeneratorModel(
        QueryGeneratorConfig(
            encoder=parts.shape,
            decoder=decoder_shape(words.num_embeddings, words.embedding_dim, decoder_layers, d_ff, dropout),
            vocab_size=words.num_embeddings,
            d_model=words.embedding_dim,
            copy_head=copy_head,
            frozen_encoder=frozen_encoder,
            special_token_ids=sorted(set(tokenizer.all_special_ids)),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=end,
            decoder_start_token_id=parts.start,
        )
    )
    with torch.no_grad():
        model.shared.weight.copy_(words.weight)
        counts = count_tokens(tokenizer, texts, words.num_embeddings)
        model.lm_head.bias.copy_(counts.log_frequencies(end))
    copy_weights(parts.network, model.encoder.network, leave_out="pooler")
    model.train(False)
    return model, tokenizer


def scratch_generator(
    preset: str, texts: Iterable[str], *, dropout: float = 0.0
) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """A small T5 with random weights, made by torch's generator, and a tokenizer trained on the texts.

    Args:
        preset: ``"tiny"``, ``"mini"`` or ``"small"``, see `retgen.models.scratch.PRESETS`.
        texts: read once, as a stream.
        dropout: of encoder and decoder.

    Raises:
        UsageError: an unknown preset.
    """
    shape = find_preset(preset)
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    pad, eos = (int(tokenizer.vocab[token]) for token in (PAD, EOS))
    values: dict[str, Any] = {
        **stack_shape(shape, len(tokenizer), dropout),
        "pad_token_id": pad,
        "eos_token_id": eos,
        "decoder_start_token_id": pad,
        "scale_decoder_outputs": False,
    }
    model = T5ForConditionalGeneration(T5Config(**values))
    # T5's own deviation of 1 makes large logits of tied embeddings, which take many steps to unlearn.
    torch.nn.init.normal_(model.shared.weight, std=0.05)
    model.train(False)
    return model, tokenizer


def save_generator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    *,
    made_by: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Write model and tokenizer into one folder, all of it or nothing. ``from_pretrained`` reads it too.

    Args:
        model: of any source.
        tokenizer: its own.
        path: where the folder shall stand.
        made_by: JSON values that say how the model was made.
        overwrite: replace a generator that stands there.

    Raises:
        ArtefactError: something stands there that may not be replaced.
    """
    save_folder(model, tokenizer, path, kind=KIND, made_by=made_by, overwrite=overwrite)


def load_saved_generator(path: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A generator and its tokenizer, from a folder of `save_generator`, or a trainer's checkpoint with a tokenizer.

    Returns:
        The model in evaluation mode, with the weights and the type it was saved with.

    Raises:
        FormatError: there is no model, or one that is no encoder-decoder.
        ArtefactError: the folder is torn, of another kind, or its weights are not those of such a model.
    """
    if (Path(path) / store.MANIFEST).exists():
        store.open_folder(path, kind=KIND)
    _require_seq2seq(path)
    return whole_model(AutoModelForSeq2SeqLM, path), load_tokenizer(path)


def _trained_before(source: str, options: dict[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_saved_generator(source)
    ours = isinstance(model, QueryGeneratorModel)
    _check_options(options, SAVED_OPTIONS if ours else (), source)
    if isinstance(model, QueryGeneratorModel):
        if options.get("copy_head", model.config.copy_head) != model.config.copy_head:
            raise UsageError(
                f"this model was made with copy_head={model.config.copy_head}, not {options['copy_head']}",
                where=source,
                mend="Leave the option out, or begin from the encoder it was made from",
            )
        model.freeze_encoder(options.get("frozen_encoder", model.config.frozen_encoder))
    return model, tokenizer


def _from_checkpoint(source: str) -> PreTrainedModel:
    _require_seq2seq(source)
    model = load_weights(AutoModelForSeq2SeqLM, source)
    config: Any = model.config
    if config.decoder_start_token_id is None:  # some T5 checkpoints leave it out: theirs is the padding
        config.decoder_start_token_id = config.pad_token_id
    model.train(False)
    return model


def _require_seq2seq(path: str | Path) -> None:
    kind = model_type(path)
    # By name: to go through the classes would import the code of every family.
    if kind not in {*MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, QueryGeneratorConfig.model_type}:
        encoder = kind != UniGenConfig.model_type
        raise FormatError(
            f"this is a model of type {kind!r}, where an encoder-decoder is needed (T5, BART, …)",
            where=path,
            mend=f"For a BERT-like encoder with a fresh decoder, give warm:{path}" if encoder else "Give another model",
        )


def _check_options(options: Mapping[str, Any], known: Iterable[str], source: str) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        there = ", ".join(sorted(known)) or "none: the checkpoint has its own"
        raise UsageError(
            f"this source of generators has no option {unknown[0]!r}", where=source, mend=f"It has {there}"
        )


def _needed(texts: Iterable[str] | None, source: str) -> Iterable[str]:
    if texts is None:
        raise UsageError("this source of generators needs the corpus' texts", where=source, mend="Pass texts=…")
    return texts
