"""Small collections and models in published forms: DPR's files, MS MARCO QnA, BEIR folders, checkpoints."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from retgen import almanac
from retgen.almanac import AlmanacQuestion
from retgen.formats.dpr import Example, write_examples, write_passages
from retgen.models.scratch import train_tokenizer
from retgen.types import Document, Query
from tests.models.checkpoints import byte_level_tokenizer, save_encoder, save_seq2seq, wordpiece_tokenizer


def small_almanac(passages: int) -> tuple[list[Document], dict[str, list[AlmanacQuestion]]]:
    """Some passages of the almanac, and their questions by split."""
    documents = almanac.documents()[:passages]
    ids = {document.id for document in documents}
    return documents, {
        split: [question for question in almanac.questions(split) if question.doc_id in ids]
        for split in ("train", "dev", "test")
    }


def write_dpr(folder: Path, *, name: str = "nq", passages: int = 30, questions: int = 12) -> None:
    """``psgs_w100.tsv``, two training files and the test questions as DPR publishes them."""
    documents, asked = small_almanac(passages)
    renamed = {document.id: Document(str(n), document.text, document.title) for n, document in enumerate(documents, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    write_passages(folder / "psgs_w100.tsv", renamed.values())
    for split in ("train", "dev"):
        examples = [
            Example(Query(str(n), question.text), question.answers, (renamed[question.doc_id],))
            for n, question in enumerate(_spread(asked[split], questions))
        ]
        write_examples(folder / f"biencoder-{name}-{split}.json", examples)
    with (folder / f"{name}-test.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t")
        for question in _spread(asked["test"], questions):
            writer.writerow([question.text, repr(list(question.answers))])


UNANSWERED = 7
"""In `write_msmarco_qna`, every so many-th question has no answer and no selected passage."""


def write_msmarco_qna(folder: Path, *, passages: int = 30, questions: int = 30) -> None:
    """``train_v2.1.json.gz`` and ``dev_v2.1.json.gz``: objects of columns, as MS MARCO publishes them.

    Each question has three passages, of which one is selected; of its first question also a second.
    """
    documents, asked = small_almanac(passages)
    folder.mkdir(parents=True, exist_ok=True)
    texts = [document.contents for document in documents]
    places = {document.id: number for number, document in enumerate(documents)}
    for split, of, first in (("train", asked["train"], 1000), ("dev", [*asked["dev"], *asked["test"]], 9000)):
        rows = []
        for number, question in enumerate(_spread(of, questions)):
            unanswered = number % UNANSWERED == UNANSWERED - 1
            chosen = [] if unanswered else [0, 1] if number == 0 else [0]
            shown = [texts[(places[question.doc_id] + step) % len(texts)] for step in (0, 1, 5)]
            rows.append(
                {
                    "answers": ["No Answer Present."] if unanswered else list(question.answers),
                    "passages": [
                        {"is_selected": int(n in chosen), "passage_text": text, "url": f"http://a.example/{n}"}
                        for n, text in enumerate(shown)
                    ],
                    "query": question.text,
                    "query_id": first + number,
                    "query_type": "ENTITY",
                    "wellFormedAnswers": "[]",
                }
            )
        write_columns(folder / f"{split}_v2.1.json.gz", rows)


def write_columns(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows as the official object of columns, gzipped."""
    columns = {name: {str(number): row[name] for number, row in enumerate(rows)} for name in rows[0]}
    path.write_bytes(gzip.compress(json.dumps(columns).encode(), mtime=0))


def write_beir(folder: Path, *, passages: int = 12, questions: int = 4, splits: Sequence[str] = ("test",)) -> None:
    """A BEIR folder; the second passage of every question is judged 2 where it is relevant, else 0."""
    documents, asked = small_almanac(passages)
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps({"_id": document.id, "title": document.title, "text": document.text}) + "\n")
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
        for split in splits:
            for question in _spread(asked[split], questions):
                out.write(json.dumps({"_id": question.id, "text": question.text}) + "\n")
    for split in splits:
        lines = [f"{question.id}\t{question.doc_id}\t1" for question in _spread(asked[split], questions)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")


def save_models(folder: Path) -> None:
    """Tiny checkpoints with random weights: a T5, a decoder-only language model, a cross-encoder."""
    torch.manual_seed(0)
    save_seq2seq(folder / "t5")
    _save_cross_encoder(folder / "cross-encoder")
    pieces = byte_level_tokenizer()
    gpt = GPT2Config(
        vocab_size=len(pieces), n_embd=16, n_layer=1, n_head=2, n_positions=1024,
        bos_token_id=pieces.bos_token_id, eos_token_id=pieces.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(gpt).save_pretrained(folder / "causal")
    pieces.save_pretrained(folder / "causal")


def _save_cross_encoder(folder: Path) -> None:
    words = wordpiece_tokenizer()
    bert = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, num_labels=1, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    BertForSequenceClassification(bert).save_pretrained(folder)
    words.save_pretrained(folder)


def save_unigen_models(folder: Path) -> None:
    """A T5 that can write every text, and a BERT-like encoder, with random weights: what UniGen's tables begin with."""
    torch.manual_seed(0)
    documents, asked = small_almanac(30)
    texts = [document.contents for document in documents] + [question.text for question in asked["train"]]
    tokenizer = train_tokenizer(texts, 600)
    shape = {"vocab_size": len(tokenizer), "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2}
    config = T5Config(**shape, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    bert = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=128
    )
    save_encoder(folder / "bert", bert)


def save_answering_models(folder: Path) -> None:
    """Those of UniGen's tables, a BART and a cross-encoder."""
    save_unigen_models(folder)
    pieces = byte_level_tokenizer()
    bart = BartConfig(
        vocab_size=len(pieces), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=128,
        pad_token_id=pieces.pad_token_id, bos_token_id=pieces.bos_token_id, eos_token_id=pieces.eos_token_id,
        decoder_start_token_id=pieces.eos_token_id,
    )  # fmt: skip
    BartForConditionalGeneration(bart).save_pretrained(folder / "bart")
    pieces.save_pretrained(folder / "bart")
    _save_cross_encoder(folder / "cross-encoder")


def _spread(questions: Sequence[AlmanacQuestion], most: int) -> list[AlmanacQuestion]:
    step = max(1, len(questions) // most)
    return list(questions[::step][:most])
