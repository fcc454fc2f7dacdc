"""RAG's marginals: by hand on two passages, for both variants, in the loss and in decoding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from retgen.errors import UsageError
from retgen.models.fid import FiDReader
from retgen.models.rag import SEQUENCE, TOKEN, MarginalTokens, RagReader, log_prior, marginalised, passage_slots
from retgen.models.readings import Reading
from tests.models.generators import seq2seq
from tests.models.readers import (
    ANSWERS,
    DOCUMENTS,
    FORMAT,
    READINGS,
    plain_log_probabilities,
    plain_scores,
    reader,
    target_ids,
)

KINDS = ("t5", "bart with a forced token", "warm")
TWO = Reading("who discovered oxygen", DOCUMENTS[:2], (math.log(3.0), 0.0))
"""p(z|x) = (3/4, 1/4)."""


def test_the_prior_is_the_softmax_of_the_scores() -> None:
    assert log_prior(TWO.scores).exp().tolist() == pytest.approx([0.75, 0.25])
    assert log_prior([5.0]).tolist() == [0.0]
    # Scores of any size, e.g. BM25's or inner products; and flatter ones.
    assert log_prior([1000.0, 1000.0 - math.log(3.0)]).exp().tolist() == pytest.approx([0.75, 0.25])
    assert log_prior([2 * math.log(3.0), 0.0], 2.0).exp().tolist() == pytest.approx([0.75, 0.25])


def test_marginals_of_a_case_by_hand() -> None:
    # Two passages, an answer of two tokens: p(y_1|z) = 1/2, 1/10; p(y_2|y_1, z) = 1/5, 9/10.
    each = torch.tensor([[0.5, 0.2], [0.1, 0.9]]).log()
    prior = torch.tensor([0.75, 0.25]).log()
    slots = passage_slots(torch.tensor([0, 0]))
    sequence = marginalised(each.sum(dim=1, keepdim=True), prior, slots).exp()
    assert sequence.item() == pytest.approx(0.75 * 0.5 * 0.2 + 0.25 * 0.1 * 0.9)  # 0.0975
    token = marginalised(each, prior, slots).exp()
    assert token.tolist()[0] == pytest.approx([0.75 * 0.5 + 0.25 * 0.1, 0.75 * 0.2 + 0.25 * 0.9])  # 0.4, 0.375
    assert token.prod().item() == pytest.approx(0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods_and_loss_are_the_definitions(kind: str) -> None:
    sequence, token = (reader(RagReader, kind, marginal=name) for name in (SEQUENCE, TOKEN))
    apart = []
    for answer in dict.fromkeys(["Joseph Priestley", *ANSWERS]):
        target = target_ids(sequence, answer)
        # Plain passes over one passage at a time, then sums and products of probabilities.
        first, second = (plain_scores(sequence, row, target).double().exp() for row in sequence.input_ids(TWO))
        by_sequence = (0.75 * first.prod() + 0.25 * second.prod()).log().item()
        by_token = (0.75 * first + 0.25 * second).prod().log().item()
        apart.append(abs(by_sequence - by_token))
        for made, expected in ((sequence, by_sequence), (token, by_token)):
            batch = made.batch([TWO], [answer])
            assert made.log_likelihoods(batch).item() == pytest.approx(expected, abs=2e-4)
            assert made.loss(batch).item() == pytest.approx(-expected / len(target), abs=1e-4)
    # For some answer or other of a random network the two differ by more than what is allowed above.
    assert max(apart) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_rag_token_writes_from_the_marginal_distribution(kind: str) -> None:
    made = reader(RagReader, kind, marginal=TOKEN)
    rows = made.input_ids(TWO)
    end = {made.model.generation_config.eos_token_id, *target_ids(made, "")}
    written: list[int] = []
    score = 0.0
    while len(written) < FORMAT.max_answer_tokens and not (written and written[-1] in end):
        # The next token's distribution behind what is written; the last column's own target does not matter.
        each = [plain_log_probabilities(made, row, [*written, 0])[-1].double().exp() for row in rows]
        marginal = 0.75 * each[0] + 0.25 * each[1]
        written.append(int(marginal.argmax()))
        score += float(marginal.max().log())
    (answer,) = made.write([TWO])
    assert answer.tokens == len(written)
    assert answer.token_ids == made.without_end(written)
    assert answer.score == pytest.approx(score, abs=5e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_rag_sequence_takes_the_candidate_of_the_highest_marginal(kind: str, num_beams: int) -> None:
    made = reader(RagReader, kind, marginal=SEQUENCE)
    rows = made.input_ids(TWO)
    model: Any = made.model
    candidates: set[tuple[int, ...]] = set()
    for passage in TWO.passages:  # each passage's own beams, as the plain model over it alone writes them
        alone = reader(FiDReader, kind)
        encoded = alone.encode(alone.batch([Reading(TWO.question, (passage,))]))
        with torch.no_grad():
            candidates.update(alone.generate(encoded, num_beams, num_beams))
    scored = {}
    for candidate in candidates:
        each = [plain_scores(made, row, candidate).double() for row in rows]
        scored[candidate] = float((0.75 * each[0].sum().exp() + 0.25 * each[1].sum().exp()).log())
    best = max(scored, key=lambda candidate: scored[candidate])
    (answer,) = made.write([TWO], num_beams=num_beams)
    assert answer.token_ids == made.without_end(best)
    assert answer.score == pytest.approx(scored[best], abs=5e-4)
    posterior = torch.tensor([0.75, 0.25]).log() + torch.stack([plain_scores(made, row, best).sum() for row in rows])
    assert answer.shares == pytest.approx(posterior.softmax(dim=0).tolist(), abs=1e-3)
    assert model.training is False


def test_rag_token_shares_are_the_tokens_posteriors() -> None:
    made = reader(RagReader, marginal=TOKEN)
    (answer,) = made.write([TWO])
    ended = target_ids(made, "")[-1:] if answer.tokens > len(answer.token_ids) else []
    each = torch.stack([plain_scores(made, row, [*answer.token_ids, *ended]) for row in made.input_ids(TWO)])
    expected = (torch.tensor([[0.75], [0.25]]).log() + each).softmax(dim=0).mean(dim=1)
    assert answer.shares == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("marginal", [SEQUENCE, TOKEN])
def test_with_one_passage_it_is_fid(marginal: str) -> None:
    made, fid = reader(RagReader, marginal=marginal), reader(FiDReader)
    one = READINGS[1]
    assert made.loss(made.batch([one], ["two"])).item() == pytest.approx(fid.loss(fid.batch([one], ["two"])).item())
    (ours,), (theirs,) = made.write([one]), fid.write([one])
    assert ours.token_ids == theirs.token_ids
    assert ours.score == pytest.approx(theirs.score, abs=1e-4)


@pytest.mark.parametrize("marginal", [SEQUENCE, TOKEN])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_batches_of_unequal_numbers_of_passages_do_not_matter(marginal: str, num_beams: int) -> None:
    made = reader(RagReader, marginal=marginal)
    together = made.log_likelihoods(made.batch(READINGS, ANSWERS))
    apart = [made.log_likelihoods(made.batch([one], [answer])) for one, answer in zip(READINGS, ANSWERS, strict=True)]
    torch.testing.assert_close(together, torch.cat(apart), atol=2e-4, rtol=1e-5)
    written = made.write(READINGS, num_beams=num_beams)
    for one, reading in zip(written, READINGS, strict=True):
        (alone,) = made.write([reading], num_beams=num_beams)
        assert one.token_ids == alone.token_ids
        assert one.score == pytest.approx(alone.score, abs=2e-4)
        assert one.shares == pytest.approx(alone.shares, abs=1e-4)
        assert len(one.shares) == len(reading.passages)
        assert sum(one.shares) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("marginal", [SEQUENCE, TOKEN])
def test_the_order_of_passages_does_not_matter_and_their_scores_do(marginal: str) -> None:
    made = reader(RagReader, marginal=marginal)
    turned = Reading(TWO.question, TWO.passages[::-1], TWO.scores[::-1])
    swapped = Reading(TWO.question, TWO.passages, TWO.scores[::-1])
    first, second, third = (made.log_likelihoods(made.batch([one], ["two"])).item() for one in (TWO, turned, swapped))
    assert first == pytest.approx(second, abs=1e-4)
    assert abs(first - third) > 1e-3


def test_gradients_reach_every_passage_and_the_decoder() -> None:
    made = reader(RagReader, marginal=SEQUENCE)
    batch = made.batch([TWO], ["two"])
    states: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: Any) -> None:
        output[0].retain_grad()
        states.append(output[0])

    handle = made.model.get_encoder().register_forward_hook(keep)
    try:
        made.loss(batch).backward()
    finally:
        handle.remove()
    gradient = states[0].grad
    assert gradient is not None
    assert bool((gradient.abs().sum(dim=(1, 2)) > 0).all())
    made.model.zero_grad()


def test_rows_of_one_question_get_the_same_distribution() -> None:
    slots = passage_slots(torch.tensor([0, 0, 1, 2, 2, 2]))
    assert slots.tolist() == [[0, 1, -1], [2, -1, -1], [3, 4, 5]]
    prior = torch.cat([log_prior(scores) for scores in ([1.0, 2.0], [0.0], [3.0, 1.0, 2.0])])
    scores = torch.randn(6 * 2, 5)
    found = MarginalTokens(prior, slots)(torch.zeros(12, 1), scores)
    assert found.shape == scores.shape
    assert found.logsumexp(dim=-1).tolist() == pytest.approx([0.0] * 12, abs=1e-5)
    by_row = found.view(6, 2, 5)
    assert torch.equal(by_row[0], by_row[1])
    assert torch.equal(by_row[3], by_row[5])
    plain = scores.view(6, 2, 5).softmax(dim=-1)
    expected = (plain[3:] * prior[3:].exp()[:, None, None]).sum(dim=0).log()
    torch.testing.assert_close(by_row[3], expected)
    torch.testing.assert_close(by_row[2], plain[2].log())


def test_bad_input_is_named() -> None:
    with pytest.raises(UsageError, match="unknown marginal"):
        reader(RagReader, marginal="document")
    with pytest.raises(UsageError, match="temperature"):
        RagReader(*seq2seq("t5"), FORMAT, temperature=0.0)
    made = reader(RagReader)
    with pytest.raises(UsageError, match="2 passages have 1 scores"):
        made.write([Reading("who?", DOCUMENTS[:2], (1.0,))])
    with pytest.raises(UsageError, match="finite"):
        made.write([Reading("who?", DOCUMENTS[:1], (math.inf,))])
