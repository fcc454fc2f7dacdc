"""What a training on a collection is to do, and the folder that its checkpoints are kept in until it is done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.connect.pseudo import PSEUDO_PER_DOCUMENT
from retgen.corpus import Corpus
from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.models.sources import SCRATCH, WARM
from retgen.store import write_atomic
from retgen.store.placing import locked
from retgen.train.options import UniGenTraining
from retgen.train.questions import CollectionQuestions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PLAN = "plan.json"
_MEASURES = 5


@dataclass(frozen=True, slots=True)
class CollectionTraining:
    """What to train, and how long.

    Args:
        source: of the weights, see `retgen.models.sources.load_model`.
        docids: ``lead``, ``title``, or ``connector``: texts that were written before.
        steps: of fine-tuning on ⟨q_c → d_c⟩, ⟨q_c → a⟩. 300 of 8 are minutes on two cores.
        pretraining_steps: on ⟨q_k + d → d_c⟩, ⟨q_k + d → a_k⟩; 0 leaves that stage out.
        batch_size: examples a step.
        learning_rate: None takes one that suits the source.
        answer_strategy: how answers are decoded; ``span`` needs least training.
        pseudo_per_document: K of the paper, at most.
        context_words: quoted in a question's context.
        max_input_tokens: longer inputs are cut.
        save_steps: between checkpoints.
        eval_steps: of fine-tuning, between measures on dev questions, where there are any; None is about five times
            over the training, 0 never.
        keep_best: end with the weights that did best on dev questions, not with the last. The rate has fallen to 0 by
            then, and dev questions are few, so that the last are rarely clearly worse: off by default.
        seed: of everything random.
    """

    source: str
    docids: str = "lead"
    steps: int = 300
    pretraining_steps: int = 50
    batch_size: int = 8
    learning_rate: float | None = None
    answer_strategy: str = "span"
    pseudo_per_document: int = PSEUDO_PER_DOCUMENT
    context_words: int = 60
    max_input_tokens: int = 224
    save_steps: int = 50
    eval_steps: int | None = None
    keep_best: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.pretraining_steps < 0 or self.batch_size < 1:
            raise UsageError(
                f"cannot train {self.steps} steps of {self.batch_size} examples after {self.pretraining_steps}",
                mend="Give at least one step and one example a step",
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UsageError(f"a learning rate of {self.learning_rate} teaches nothing", mend="Give one above 0")
        if self.eval_steps is not None and self.eval_steps < 0:
            raise UsageError(f"dev questions cannot be asked every {self.eval_steps} steps", mend="Give 0 for never")
        if self.keep_best and not self.measured_every:
            raise UsageError("the best weights cannot be told: nothing is measured", mend="Give eval_steps above 0")

    @property
    def measured_every(self) -> int:
        """Steps of fine-tuning between two measures on dev questions; 0 is never."""
        return -(-self.steps // _MEASURES) if self.eval_steps is None else self.eval_steps

    def stage(self, steps: int) -> UniGenTraining:
        """The options of one stage of so many steps; it asks no dev questions."""
        warm, scratch = self.source.startswith(WARM), self.source.startswith(SCRATCH)
        usual = 2e-4 if warm else 1e-3 if scratch else 5e-4
        return UniGenTraining(
            max_steps=steps,
            batch_size=self.batch_size,
            learning_rate=usual if self.learning_rate is None else self.learning_rate,
            fresh_learning_rate=1e-3 if warm else None,
            warmup_steps=min(50, steps // 6),
            frozen_layers=1 if warm else 0,
            save_steps=self.save_steps,
            seed=self.seed,
        )


def agree(
    place: Path,
    corpus: Corpus,
    questions: CollectionQuestions,
    options: DataclassInstance,
    connectors: Mapping[str, str] | None = None,
) -> None:
    """Begin a folder of checkpoints, or check that the one that stands there is of this very training.

    Args:
        place: the folder.
        corpus: that is trained on.
        questions: likewise.
        options: of the training.
        connectors: the docid texts it is given, by document id.

    Raises:
        MismatchError: it is of a training with other settings, questions or documents.
        ArtefactError: something else stands there, or its plan cannot be read.
    """
    parts = (questions.train, questions.dev, questions.held_out)
    asked = json.dumps([[asdict(triplet) for triplet in part] for part in parts])
    plan = {
        **asdict(options),
        "corpus": corpus.fingerprint,
        "questions": _digest(asked),
        **({} if connectors is None else {"connectors": _digest(json.dumps(sorted(connectors.items())))}),
    }
    if not (place / _PLAN).exists():
        if place.exists() and any(place.iterdir()):
            raise ArtefactError("a folder that is no training's stands there", where=place, mend="Move it away")
        place.mkdir(exist_ok=True)
        write_atomic(place / _PLAN, json.dumps(plan, indent=1) + "\n")
        return
    try:
        earlier = dict(json.loads((place / _PLAN).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ArtefactError("its plan cannot be read", where=place, mend="Remove the folder") from error
    other = [name for name in plan if earlier.get(name) != plan[name]]
    if other:
        digests = ("corpus", "questions", "connectors")
        changed = ", ".join(name if name in digests else f"{name} was {earlier.get(name)!r}" for name in other)
        raise MismatchError(
            f"a training with other settings was begun there ({changed})",
            where=place,
            mend="Give the same settings to go on with it, or begin anew with --no-resume",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def remove_training(place: str | Path) -> None:
    """Remove what `train_on_collection` kept; nothing else is ever removed.

    Raises:
        ArtefactError: the folder is no training's.
    """
    place = Path(place)
    if not place.exists():
        return
    if not (place / _PLAN).exists():
        raise ArtefactError("a folder that is no training's stands there", where=place, mend="Move it away")
    with locked(place.resolve()):
        # Moved first: nobody resumes from what is half removed.
        aside = place.with_name(f".{place.name}.removing")
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
