"""UniGen models from nothing: a tokenizer trained on the corpus, and random weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from retgen.errors import UsageError
from retgen.models.config import UniGenConfig, check_options
from retgen.models.mark_tokens import ensure_marks
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.models.vocabulary import fit_vocabulary
from retgen.models.warm_start import mark_ids

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True, slots=True)
class Preset:
    """The shape of a model from scratch.

    Args:
        vocab_size: the most tokens its tokenizer learns; small corpora give fewer.
        d_model: width of the states.
        d_ff: width of the gated feed-forward layers.
        layers: of the encoder, and of each decoder.
        num_heads: each of width 64.
    """

    vocab_size: int
    d_model: int
    d_ff: int
    layers: int
    num_heads: int


PRESETS = {
    "tiny": Preset(vocab_size=4_000, d_model=256, d_ff=512, layers=2, num_heads=4),
    "mini": Preset(vocab_size=8_000, d_model=384, d_ff=1024, layers=4, num_heads=6),
    "small": Preset(vocab_size=16_000, d_model=512, d_ff=1024, layers=6, num_heads=8),
}


def from_scratch(
    preset: str, texts: Iterable[str], *, dropout: float = 0.0, **options: Any
) -> tuple[UniGenForRetrievalAndAnswering, PreTrainedTokenizerBase]:
    """A model with random weights, made by torch's generator, and a tokenizer trained on the corpus.

    The output head is tied to the embeddings (initial standard deviation 0.05) and starts with the tokens' log
    frequencies as bias.

    Args:
        preset: ``"tiny"``, ``"mini"`` or ``"small"``.
        texts: the corpus; read twice, as a stream, so an iterator that can be read only once will not do.
        dropout: of encoder and decoders.
        options: `retgen.models.config.MODEL_OPTIONS`.

    Raises:
        UsageError: an unknown preset or option, no texts, or texts that can be read only once.
    """
    shape = find_preset(preset)
    check_options(options, ("dropout",))
    if iter(texts) is texts:
        raise UsageError("a model from scratch reads the texts twice", mend="Pass a list or a corpus, not an iterator")
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    marks = ensure_marks(tokenizer)
    stack = {"model_type": "t5", **stack_shape(shape, len(tokenizer), dropout)}
    pad, eos = (int(tokenizer.vocab[token]) for token in (PAD, EOS))
    model = UniGenForRetrievalAndAnswering(
        UniGenConfig(
            encoder=stack,
            decoder=dict(stack),
            vocab_size=len(tokenizer),
            d_model=shape.d_model,
            scale_decoder_outputs=False,
            output_bias=True,
            pad_token_id=pad,
            eos_token_id=eos,
            decoder_start_token_id=pad,
            **mark_ids(marks),
            **options,
        )
    )
    fit_vocabulary(model, tokenizer, marks, texts)
    model.train(False)
    return model, tokenizer


def find_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}", where=f"scratch:{name}", mend=f"Give {', '.join(PRESETS)}")
    return PRESETS[name]


def stack_shape(preset: Preset, vocab_size: int, dropout: float) -> dict[str, Any]:
    """A preset as a `T5Config` of encoder and decoder alike."""
    return {
        "vocab_size": vocab_size,
        "d_model": preset.d_model,
        "d_kv": 64,
        "d_ff": preset.d_ff,
        "num_layers": preset.layers,
        "num_decoder_layers": preset.layers,
        "num_heads": preset.num_heads,
        "dropout_rate": dropout,
        "feed_forward_proj": "gated-gelu",
    }


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every text can be written with it, and read back as it was (in Unicode form NFC).

    A word has the same tokens at the beginning of a text as within it, so that a docid or an answer can be found in a
    context token for token.

    Args:
        texts: read once, as a stream.
        vocab_size: the most tokens, special ones included; at least 259, as every byte is one.
    """
    core = Tokenizer(models.BPE(unk_token=UNK))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, EOS, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(iter(texts), trainer)
    eos = core.token_to_id(EOS)
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single=f"$A {EOS}", pair=f"$A {EOS} $B:1 {EOS}:1", special_tokens=[(EOS, eos)]
            ),
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNK, model_max_length=512
    )
