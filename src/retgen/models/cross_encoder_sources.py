"""Where a cross-encoder comes from, by one name: a sequence-classification checkpoint, a BERT-like encoder, or nothing.

A cross-encoder is any sequence-classification model of transformers with one output, its logit, or with two, whose
difference (second minus first: relevant minus not) is the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import processors
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from retgen import store
from retgen.errors import ArtefactError, FormatError, UsageError
from retgen.models.late_join import LateJoinConfig
from retgen.models.match_marks import add_match_marks
from retgen.models.pretrained import load_tokenizer, load_weights, model_type
from retgen.models.scratch import EOS, PAD, PRESETS, UNK, train_tokenizer
from retgen.models.sources import PACKAGED, SCRATCH, WARM, packaged_encoder
from retgen.models.warm_start import keep_lowest, require_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

KIND = "cross-encoder"
START = "<s>"
_TRAIN = "Train one from it: retgen train cross-encoder --source warm:<encoder>"


def load_cross_encoder(
    source: str | Path,
    *,
    texts: Iterable[str] | None = None,
    dropout: float | None = None,
    encoder_layers: int | None = None,
    join_layer: int | None = None,
    match_marks: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A cross-encoder's model, with its tokenizer.

    What is random in it is made by torch's generator: call ``torch.manual_seed`` first.

    Args:
        source: a hub id or folder of a sequence-classification checkpoint (sentence-transformers' cross-encoders are
            such); ``warm:minilm`` or ``warm:<hub id or folder>`` for a BERT-like encoder with a fresh head of one
            logit; ``scratch:tiny``, ``scratch:mini`` or ``scratch:small`` for random weights.
        texts: the corpus, on which ``scratch:`` trains a tokenizer.
        dropout: of every layer; the checkpoint's own by default, 0 from scratch.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; all by default. Fewer train and score faster.
        join_layer: of a ``warm:`` BERT, the layer up to which it reads query and passage apart, frozen: see
            `retgen.models.late_join`. Each passage is then read once, and its queries cost the layers above.
        match_marks: of a ``warm:`` or ``scratch:`` source, tell the model which tokens query and passage share, see
            `retgen.models.match_marks`. With little training data it makes the difference.

    Returns:
        The model in evaluation mode, in fp32, and its tokenizer.

    Raises:
        UsageError: an unknown preset, no texts where they are needed, a dropout that is not a share, layers that the
            source has not, or marks for a model that cannot read them.
        FormatError: there is no model, or one that is not a cross-encoder.
        ArtefactError: a folder that retgen saved is torn, or of another kind.
        MissingExtraError: ``warm:minilm`` without its package.
    """
    if dropout is not None and not 0.0 <= dropout < 1.0:
        raise UsageError(f"dropout is a share, from 0 up to 1, not {dropout}")
    name = str(source)
    for option, value in (("encoder_layers", encoder_layers), ("join_layer", join_layer)):
        if value is not None and not name.startswith(WARM):
            raise UsageError("only the layers of a warm: source can be chosen", where=name, mend=f"Leave {option} out")
    if name.startswith(SCRATCH):
        model, tokenizer = _from_scratch(name.removeprefix(SCRATCH), texts, dropout or 0.0)
    elif name.startswith(WARM):
        path = name.removeprefix(WARM)
        model, tokenizer = _from_encoder(
            packaged_encoder() if path == PACKAGED else path, dropout, encoder_layers, join_layer
        )
    elif match_marks:
        raise UsageError("a trained cross-encoder cannot learn to read marks", where=name, mend="Leave match_marks out")
    else:
        return _trained(name, dropout)
    if match_marks:
        add_match_marks(model)
    return model, tokenizer


def relevance(logits: Tensor) -> Tensor:
    """The relevance logit of a sequence-classification model's output, in fp32.

    Args:
        logits: shape (B, 1), or (B, 2) for not relevant and relevant.

    Returns:
        Shape (B,); any real number. Its sigmoid is p(relevant) for both shapes.
    """
    values = logits.float()
    return values[:, 0] if values.shape[-1] == 1 else values[:, 1] - values[:, 0]


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most tokens that tokenizer and position embeddings allow, special ones included; None for no limit."""
    limits = [] if tokenizer.model_max_length > 10**6 else [int(tokenizer.model_max_length)]
    positions = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if isinstance(positions, nn.Embedding):
        # RoBERTa and its kin count positions from behind the padding's.
        first = 0 if positions.padding_idx is None else positions.padding_idx + 1
        limits.append(positions.num_embeddings - first)
    return min(limits, default=None)


def cast_trunk(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast a model's trunk, and leave pooler and classification head in fp32: logits of close passages stay apart."""
    nn.Module.to(model, dtype)
    if dtype == torch.float32:
        return
    for part in _head_of(model):
        part.float()
        part.register_forward_pre_hook(_in_fp32)


def _in_fp32(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.float() if isinstance(value, Tensor) and value.is_floating_point() else value for value in arguments
    )


def _head_of(model: PreTrainedModel) -> list[nn.Module]:
    trunk = model.base_model
    pooler = getattr(trunk, "pooler", None)
    outside = [part for part in model.children() if part is not trunk]
    return [*outside, pooler] if isinstance(pooler, nn.Module) else outside


def _trained(path: str, dropout: float | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    made_here = (Path(path) / store.MANIFEST).exists()
    if made_here:
        store.open_folder(path, kind=KIND)
    kind = model_type(path)
    config = _config(path, dropout)
    try:
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            path, config=config, dtype="float32", trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # a torn safetensors file, an unknown family, a head of another shape: each its own type
        if made_here:
            raise ArtefactError(
                "its weights cannot be read", where=path, mend="Save the model again, or copy its folder again"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise FormatError(
            f"no cross-encoder of type {kind!r} can be loaded from here ({reason})", where=path
        ) from error
    model: Any = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise FormatError(
            f"this {kind!r} model has no classification head that says how relevant a passage is: {missing[0]} is "
            "missing",
            where=path,
            mend=_TRAIN,
        )
    if model.config.num_labels not in (1, 2):
        raise FormatError(
            f"this classifier has {model.config.num_labels} outputs, where a cross-encoder has one, the relevance, or "
            "two, not relevant and relevant",
            where=path,
            mend=f"Give a re-ranker. {_TRAIN}",
        )
    return model.train(False), _with_padding(load_tokenizer(path), path)


def _from_encoder(
    path: str | Path, dropout: float | None, layers: int | None, join_layer: int | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    require_encoder(path)
    tokenizer = _with_padding(load_tokenizer(path), path)
    config = _config(path, dropout)
    config.num_labels = 1
    if join_layer is not None:
        config = _joined_late(config, join_layer, tokenizer, path)
    model = load_weights(_Fresh(config), path)
    if layers is not None:
        keep_lowest(model, layers, path)
    # Also where the checkpoint has a head, of whatever it was trained to tell.
    for part in model.children():
        if part is not model.base_model and not isinstance(part, nn.Embedding):
            _begin_anew(part, float(getattr(config, "initializer_range", 0.02)))
    return model.train(False), tokenizer


def _joined_late(
    config: PreTrainedConfig, join_layer: int, tokenizer: PreTrainedTokenizerBase, path: str | Path
) -> PreTrainedConfig:
    if config.model_type != "bert":
        raise UsageError(
            f"only a BERT can be cut at a layer, not a model of type {config.model_type!r}",
            where=path,
            mend="Leave join_layer out",
        )
    values = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    return LateJoinConfig(**values, join_layer=join_layer, first_token_id=int(tokenizer.cls_token_id or 0))


class _Fresh:
    """``AutoModelForSequenceClassification`` with a configuration of its own, whatever head the checkpoint has."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self.config = config

    def from_pretrained(self, path: str, **options: Any) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            path, config=self.config, ignore_mismatched_sizes=True, **options
        )


def _begin_anew(head: nn.Module, deviation: float) -> None:
    for part in head.modules():
        if isinstance(part, nn.Linear):
            with torch.no_grad():
                part.weight.normal_(0.0, deviation)
                if part.bias is not None:
                    part.bias.zero_()
        elif hasattr(part, "reset_parameters"):
            part.reset_parameters()  # type: ignore[operator]


def _from_scratch(
    preset: str, texts: Iterable[str] | None, dropout: float
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    shape = PRESETS.get(preset)
    if shape is None:
        raise UsageError(f"unknown preset {preset!r}", where=f"scratch:{preset}", mend=f"Give {', '.join(PRESETS)}")
    if texts is None:
        raise UsageError(
            "a cross-encoder from scratch needs the corpus' texts", where=f"scratch:{preset}", mend="Pass texts=…"
        )
    tokenizer = _pair_tokenizer(texts, shape.vocab_size)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.d_model,
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.num_heads,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    model = BertForSequenceClassification(config)
    return model.train(False), tokenizer


def _pair_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    core: Any = train_tokenizer(texts, vocab_size).backend_tokenizer
    core.add_special_tokens([START])
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {EOS}",
        pair=f"{START} $A {EOS} $B:1 {EOS}:1",
        special_tokens=[(token, core.token_to_id(token)) for token in (START, EOS)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        cls_token=START,
        sep_token=EOS,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _config(path: str | Path, dropout: float | None) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(path), trust_remote_code=False)
    except Exception as error:  # transformers has a type for each way in which a configuration is not one
        raise FormatError(f"its configuration cannot be read ({_first_line(error)})", where=path) from error
    if dropout is not None:
        # Families name their rates differently: hidden_dropout_prob, attention_dropout, …
        for name, value in config.to_dict().items():
            if name.endswith(("dropout", "dropout_prob")) and isinstance(value, int | float):
                setattr(config, name, dropout)
    return config


def _with_padding(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token_id is None:
        raise FormatError(
            "its tokenizer has no padding token, so that pairs of unlike length cannot be scored together",
            where=path,
            mend="Set the tokenizer's pad_token and the model's config.pad_token_id, and save both again",
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
