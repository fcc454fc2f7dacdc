"""Which weights of a model are trained, and at which rate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from retgen.errors import UsageError
from retgen.models.copying import CopyHead
from retgen.models.stacks import T5_FAMILY
from retgen.train.freezing import frozen

if TYPE_CHECKING:
    from retgen.models.unigen import UniGenForRetrievalAndAnswering
    from retgen.train.options import UniGenTraining

_ENCODER = ("shared.", "encoder.", "answer_encoder.")
_DECODERS = ("retrieval_decoder.", "answer_decoder.", "lm_head.")


def parameter_groups(model: UniGenForRetrievalAndAnswering, options: UniGenTraining) -> list[dict[str, Any]]:
    """AdamW's groups: what came with the encoder, what is fresh, the copy heads' scalars; matrices decay, the rest not.

    Decoders count as fresh beside a BERT-like encoder, which brings none; a T5 checkpoint brings them all.

    Returns:
        Every weight that is trained, once.
    """
    fresh_rate = options.fresh_learning_rate if options.fresh_learning_rate is not None else options.learning_rate
    scalars = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, CopyHead)
        for parameter in (module.rank_bias, module.overlap_weight, module.continuation)
    }
    family = (model.config.encoder or {}).get("model_type")
    brought = (*_ENCODER, *_DECODERS) if family in T5_FAMILY else _ENCODER

    def rate(name: str, parameter: nn.Parameter) -> float:
        if id(parameter) in scalars:
            return options.prior_learning_rate
        return options.learning_rate if name.startswith(brought) else fresh_rate

    return decayed_groups(model, rate, options.weight_decay)


def decayed_groups(
    model: nn.Module, rate: Callable[[str, nn.Parameter], float], weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW's groups: every weight that is trained, once; matrices decay, the rest not.

    Args:
        model: whose weights.
        rate: gives a weight's learning rate for its name and itself.
        weight_decay: of matrices.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate(name, parameter), decay), []).append(parameter)
    return [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()]


def frozen_layers(model: UniGenForRetrievalAndAnswering, layers: int) -> AbstractContextManager[None]:
    """Within it, the embeddings and the lowest ``layers`` layers of every encoder keep their weights; all, the encoder.

    Raises:
        UsageError: the encoder has fewer layers, or layers that are not found.
    """
    return frozen(_lowest(model, layers) if layers > 0 else [])


def _lowest(model: UniGenForRetrievalAndAnswering, layers: int) -> list[nn.Module]:
    parts: list[nn.Module] = [model.shared]
    for encoder in (model.encoder, model.answer_encoder):
        if encoder is None:
            continue
        blocks = _layers(encoder)
        if layers > len(blocks):
            raise UsageError(f"cannot freeze {layers} layers of an encoder that has {len(blocks)}")
        embeddings = getattr(encoder, "embeddings", None)
        if layers == len(blocks):
            parts.append(encoder)  # what stands behind the last layer too
        parts += [*([embeddings] if isinstance(embeddings, nn.Module) else []), *blocks[:layers]]
    return parts


def _layers(encoder: nn.Module) -> nn.ModuleList:
    for name in ("block", "encoder.layer", "layers", "transformer.layer"):
        try:
            return cast(nn.ModuleList, encoder.get_submodule(name))
        except AttributeError:
            continue
    raise UsageError(
        f"do not know where the layers of a {type(encoder).__name__} are", mend="Train it with frozen_layers=0"
    )
