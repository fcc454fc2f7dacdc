"""The stage that fine-tunes a cross-encoder and a query generator towards each other: JPR-FT."""

from __future__ import annotations

from typing import Literal

from retgen.corpus import Corpus
from retgen.recipes.context import StageContext
from retgen.recipes.reranker_training import first_by_hash, labelled, reporter
from retgen.recipes.reranking import FOLDERS, keep_states
from retgen.recipes.stages import stage


@stage(
    "joint-train",
    version="1",
    seeded=True,
    isolated=True,
    needs=["collection", "candidates", "cross-encoder", "query-generator"],
)
def joint_train(
    context: StageContext,
    objective: Literal["binary", "ranking"] = "binary",
    steps: int = 0,
    epochs: float = 1.0,
    batch_size: int = 4,
    candidates_per_question: int = 24,
    max_positives: int = 16,
    alpha: float = 5e-4,
    learning_rate: float = 1e-5,
    generator_learning_rate: float = 2e-5,
    generator_weight: float = 0.5,
    freeze_encoder: bool = False,
    preset: str = "jpr",
    max_pair_tokens: int = 512,
    pairs_at_once: int = 0,
    warmup: float = 0.1,
    top_n: int = 32,
    eval_steps: int = 0,
    dev_questions: int = 100,
    save_steps: int = 50,
) -> None:
    """Fine-tune both models towards each other (JPR-FT). The defaults are the paper's for Natural Questions.

    What dev questions say before and after is reported: the symmetric KL as ``kl_before`` and ``kl_after``.

    Args:
        context: of the stage.
        objective: of the cross-encoder.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions a step.
        candidates_per_question: that the softmaxes are over.
        max_positives: relevant ones among them.
        alpha: weight of the matching loss.
        learning_rate: of the cross-encoder.
        generator_learning_rate: of the generator.
        generator_weight: λ of the order that dev questions are measured in.
        freeze_encoder: the generator's encoder keeps its weights.
        preset: how passages and questions are written for the generator.
        max_pair_tokens: of a question with a passage.
        pairs_at_once: whose activations are kept at once; 0 keeps all.
        warmup: share of the steps in which the rates rise.
        top_n: of a question's candidates, so many from the top.
        eval_steps: between measurements on dev questions; the best checkpoint is kept. 0 measures before and after.
        dev_questions: how many are measured.
        save_steps: between checkpoints.
    """
    from retgen.models.cross_encoder_sources import load_cross_encoder
    from retgen.models.generator_sources import load_saved_generator, save_generator
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.train.joint import train_joint
    from retgen.train.joint_options import JointTraining

    corpus = Corpus.open(context.input("collection") / "corpus")
    found = labelled(context, "train", top_n)
    cross_encoder = load_cross_encoder(context.input("cross-encoder") / FOLDERS["cross_encoder"])
    generator = load_saved_generator(context.input("query-generator") / FOLDERS["generator"])
    keep_states(cross_encoder[0], context.cache / "states")
    record = train_joint(
        *cross_encoder,
        *generator,
        found.questions,
        corpus,
        context.scratch / "training",
        options=JointTraining(
            objective=objective,
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            candidates_per_question=candidates_per_question,
            max_positives=max_positives,
            alpha=alpha,
            learning_rate=learning_rate,
            generator_learning_rate=generator_learning_rate,
            generator_weight=generator_weight,
            freeze_encoder=freeze_encoder,
            preset=preset,
            max_pair_tokens=max_pair_tokens,
            pairs_at_once=pairs_at_once,
            warmup_steps=warmup,
            eval_steps=eval_steps,
            keep_best=bool(eval_steps),
            save_steps=eval_steps or save_steps,
            seed=context.seed,
        ),
        dev=first_by_hash(labelled(context, "dev", top_n), dev_questions).questions,
        progress=reporter(context),
    )
    CrossEncoder(*cross_encoder, max_length=max_pair_tokens, dtype="fp32").save(
        context.folder / FOLDERS["cross_encoder"]
    )
    save_generator(*generator, context.folder / FOLDERS["generator"])
    context.report(
        {
            "train_seconds": record.seconds,
            "kl_before": record.before.get("kl"),
            "kl_after": record.after.get("kl"),
        }
    )
