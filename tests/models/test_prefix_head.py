"""NCI's head: without it the network is a plain decoder, with it a number means another thing behind another prefix."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.errors import UsageError
from retgen.models.config import UniGenConfig
from retgen.models.prefix_head import PrefixHead, docid_outputs
from retgen.models.session import UniGenSession
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.builders import EOS, START, T5_SHAPE, VOCAB, inputs, tiny_model

FIRST_CODE, BEHIND = 20, 40
CODES = {"docid_tokens": [FIRST_CODE, BEHIND]}
LABELS = torch.tensor([[21, 25, 33, EOS], [21, 39, EOS, -100], [30, EOS, -100, -100]])


def with_head(**options: object) -> UniGenForRetrievalAndAnswering:
    return tiny_model("prefix head", **options)


def without_head(model: UniGenForRetrievalAndAnswering) -> UniGenForRetrievalAndAnswering:
    plain = copy.deepcopy(model)
    plain.write_codes()
    assert plain.prefix_head is None
    return plain


def scores(model: UniGenForRetrievalAndAnswering, labels: Tensor = LABELS) -> Tensor:
    with torch.no_grad():
        return model.target_log_probabilities("retrieval", model.encode(*inputs()), labels)


@pytest.mark.parametrize("width", [32, 512])
def test_a_step_of_training_moves_logits_about_as_far_as_plain_embeddings_do(width: int) -> None:
    # Of the width's square of terms, each moves by the rate: without a measure logits would fly apart.
    torch.manual_seed(0)
    shape = {**T5_SHAPE, "d_model": width}
    head = PrefixHead(UniGenConfig(decoder=shape, d_model=width, prefix_head_layers=1, eos_token_id=EOS, **CODES))
    embeddings = torch.nn.Parameter(torch.zeros(len(head.tokens), width))
    hidden, prefix = torch.randn(1, width), torch.randn(1, width)
    optimiser = torch.optim.AdamW([head.adaptation, embeddings], lr=1e-3)
    tokens = torch.tensor(head.tokens)
    (-(head(hidden, prefix, tokens, VOCAB) + hidden @ embeddings.T).sum()).backward()
    optimiser.step()
    with torch.no_grad():
        bent, plain = head(hidden, prefix, tokens, VOCAB), hidden @ embeddings.T
    assert 0.2 < float((bent / plain).mean()) < 5.0


def test_without_its_head_it_is_a_plain_decoder() -> None:
    model = with_head()
    plain = without_head(model)
    assert not torch.allclose(scores(model), scores(plain), atol=1e-3)
    assert model.prefix_head is not None
    with torch.no_grad():
        model.prefix_head.adaptation.zero_()
    assert torch.equal(scores(model), scores(plain))


def test_it_begins_as_the_plain_decoder_and_learns_from_there() -> None:
    plain = tiny_model("t5", **CODES)
    model = copy.deepcopy(plain)
    model.write_codes(prefix_head_layers=2)
    assert torch.equal(scores(model), scores(plain))
    assert model.prefix_head is not None
    learning = torch.optim.SGD(model.prefix_head.parameters(), lr=0.01)
    for _ in range(2):
        loss = model(*inputs(), docid_labels=LABELS).retrieval_loss
        learning.zero_grad()
        loss.backward()
        learning.step()
    # From the second step on the prefix decoder learns too.
    assert all(bool(weight.grad.abs().sum() > 0) for weight in model.prefix_head.decoder.block[0].parameters())
    with torch.no_grad():
        assert float(model(*inputs(), docid_labels=LABELS).retrieval_loss) < float(loss.detach())


def test_output_embeddings_bend_to_the_prefix_and_only_those_of_docid_tokens() -> None:
    model = with_head()
    plain = without_head(model)
    ids, mask = inputs(batch=1)
    with torch.no_grad():
        sessions = [UniGenSession(each, each.encode(ids, mask), "retrieval") for each in (model, plain)]
        written = torch.tensor([[[START, 21, 25], [START, 39, 25]]])
        ours, theirs = (session.score(written)[0, :, -1] for session in sessions)
    bent = (ours - theirs).abs()
    outside = [token for token in range(VOCAB) if token not in docid_outputs(model.config)]
    assert float(bent[:, outside].max()) < 1e-5
    assert float(bent[:, FIRST_CODE:BEHIND].min(dim=1).values.max()) > 1e-4
    # Behind another prefix the same token bends otherwise.
    assert float(((ours - theirs)[0] - (ours - theirs)[1]).abs().max()) > 1e-2
    # An answer's words do not bend.
    with torch.no_grad():
        answers = [
            each.target_log_probabilities("answer", each.encode(ids, mask), LABELS[:1]) for each in (model, plain)
        ]
    assert torch.equal(*answers)


def test_the_logits_are_the_bilinear_form_of_the_paper() -> None:
    model = with_head()
    head = model.prefix_head
    assert head is not None
    hidden, prefix = torch.randn(5, model.config.d_model), torch.randn(5, model.config.d_model)
    with torch.no_grad():
        added = head(hidden, prefix, None, VOCAB)
        for row in range(5):
            for token in (EOS, 7, FIRST_CODE, BEHIND - 1):
                expected = 0.0
                if token in head.tokens:
                    changed = head.adaptation[head.tokens.index(token)] @ prefix[row]
                    expected = float(changed @ hidden[row]) / model.config.d_model
                assert float(added[row, token]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert torch.equal(head(hidden, prefix, slice(18, 24), VOCAB), added[:, 18:24])
        assert not head(hidden, prefix, slice(5, 12), VOCAB).any()
        some = torch.tensor([33, 2, 21])
        assert torch.equal(head(hidden, prefix, some, VOCAB), added[:, some])


@pytest.mark.parametrize("layers", [0, 1])
def test_with_docid_outputs_only_nothing_else_can_be_written(layers: int) -> None:
    model = tiny_model("t5", **CODES, docid_outputs_only=True, prefix_head_layers=layers, output_bias=True)
    docids = [[21, 25, EOS], [21, 39, EOS], [30, EOS], [22, 23, 24, EOS]]
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    ids, mask = inputs()
    with torch.no_grad():
        encoded = model.encode(ids, mask)
        logits = UniGenSession(model, encoded, "retrieval").score(torch.full((3, 1, 1), START))[:, 0, 0]
        assert (logits > float("-inf")).nonzero()[:, 1].unique().tolist() == docid_outputs(model.config)
        for strategy in ("beam", "lookahead", "exact"):
            session = UniGenSession(model, encoded, "retrieval")
            found = search(session, tree, start_token_id=START, num_beams=4, k=4, strategy=strategy)
            # Trained and searched with are the same probabilities.
            wanted = torch.tensor([[*docid, *[-100] * (4 - len(docid))] for docid in docids])
            for row in range(3):
                one = model.encode(ids[row : row + 1].expand(4, -1), mask[row : row + 1].expand(4, -1))
                expected = model.target_log_probabilities("retrieval", one, wanted).sum(dim=1)
                for number, score in zip(found.documents[row], found.scores[row], strict=True):
                    assert score == pytest.approx(float(expected[number]), abs=1e-4)
        assert (model.logits("answer", torch.randn(2, model.config.d_model)) > float("-inf")).all()


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = tiny_model("t5", **CODES)
    model.write_codes(prefix_head_layers=1, only=True)
    assert model.prefix_head is not None
    torch.nn.init.normal_(model.prefix_head.adaptation, std=0.1)
    model.eval().save_pretrained(tmp_path)
    loaded = UniGenForRetrievalAndAnswering.from_pretrained(tmp_path)
    assert isinstance(loaded.prefix_head, PrefixHead)
    assert torch.equal(scores(loaded), scores(model))


@pytest.mark.parametrize("options", [{}, {"copy_head": True, **CODES}], ids=["words", "copying"])
def test_docids_in_words_and_copied_docids_have_no_such_head(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="tokens of their own"):
        tiny_model("t5", **options).write_codes(prefix_head_layers=1)
    with pytest.raises(UsageError, match="tokens of their own"):
        tiny_model("t5", prefix_head_layers=1, **options)
