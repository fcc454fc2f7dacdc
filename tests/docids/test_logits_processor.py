"""`TrieLogitsProcessor` in plain `generate`: encoder-decoder and decoder-only models, against exhaustive scoring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from retgen.docids.logits_processor import TrieLogitsProcessor
from retgen.docids.prefix_tree import PrefixTree
from retgen.errors import UsageError
from tests.docids.naive import EOS, PAD, generated, padded_inputs, random_docids, tiny_t5

VOCAB = 40


def found(
    model: PreTrainedModel,
    inputs: dict[str, torch.Tensor],
    processor: TrieLogitsProcessor,
    num_beams: int,
    longest: int,
) -> list[list[tuple[int, float]]]:
    """Per query, leaves and scores, without what `generate` fills up with."""
    output = model.generate(
        **inputs, logits_processor=[processor], num_beams=num_beams, num_return_sequences=num_beams, do_sample=False,
        length_penalty=0.0, max_new_tokens=longest, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    rows = list(zip(processor.leaves(output.sequences).tolist(), output.sequences_scores.tolist(), strict=True))
    return [
        [(leaf, score) for leaf, score in rows[start : start + num_beams] if leaf >= 0 and score > -1e8]
        for start in range(0, len(rows), num_beams)
    ]


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("seed", range(2))
def test_equals_a_callback_per_beam(seed: int, num_beams: int) -> None:
    rng = np.random.default_rng(seed)
    docids = random_docids(rng, 40, vocab=VOCAB)
    model, (ids, mask) = tiny_t5(seed), padded_inputs(rng, 3, VOCAB)
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    processor = TrieLogitsProcessor(tree, prompt_length=1)
    rows = found(model, {"input_ids": ids, "attention_mask": mask}, processor, num_beams, tree.max_length)
    for row, expected in zip(rows, generated(model, (ids, mask), docids, num_beams), strict=True):
        assert [tuple(tree.token_ids(leaf)) for leaf, _ in row] == [docid for docid, _ in expected]
        assert [score for _, score in row] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_decoder_only_models_with_fewer_docids_than_beams(count: int) -> None:
    """As many beams as docids or more: every docid is found, with the score that the model gives it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=PAD, bos_token_id=2, eos_token_id=EOS, initializer_range=0.5,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    docids = random_docids(np.random.default_rng(count), count, vocab=VOCAB)
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    prompts = torch.tensor([[PAD, PAD, 5, 9, 3], [7, 8, 30, 31, 4]])  # padded at the left
    mask = (prompts != PAD).long()
    processor = TrieLogitsProcessor(tree, prompt_length=5)
    rows = found(
        model, {"input_ids": prompts, "attention_mask": mask}, processor, max(2, tree.num_leaves + 2), tree.max_length
    )
    for prompt, real, row in zip(prompts, mask, rows, strict=True):
        assert sorted(leaf for leaf, _ in row) == list(range(tree.num_leaves))
        for leaf, score in row:
            docid = tree.token_ids(leaf)
            read = torch.tensor([[*prompt[real.bool()].tolist(), *docid]])
            with torch.no_grad():
                log_probs = model(input_ids=read).logits.log_softmax(dim=-1)[0, -len(docid) - 1 : -1]
            assert score == pytest.approx(float(log_probs[range(len(docid)), docid].sum()), abs=1e-3)


def test_what_it_allows_depends_on_the_tokens_alone() -> None:
    tree = PrefixTree.build([[3, 4, EOS], [3, EOS], [5, 6, 7, EOS]], eos_token_id=EOS)
    processor = TrieLogitsProcessor(tree, prompt_length=1)
    steps = [
        [[PAD], [PAD], [PAD]],
        [[PAD, 3], [PAD, 5], [PAD, 8]],
        [[PAD, 5, 6], [PAD, 3, EOS], [PAD, 3, 4]],  # reordered, one ended
        [[PAD, 5, 6, 7]],
    ]
    wanted = [[{3, 5}] * 3, [{EOS, 4}, {6}, {EOS}], [{7}, {EOS}, {EOS}], [{EOS}]]
    for rows, allowed in zip(steps, wanted, strict=True):
        for given in (processor, TrieLogitsProcessor(tree, prompt_length=1)):  # a fresh one says the same
            scores = given(torch.tensor(rows), torch.zeros(len(rows), 10))
            assert [set(torch.nonzero(row > -1).flatten().tolist()) for row in scores] == allowed
    assert processor.leaves(torch.tensor([[PAD, 3, EOS, PAD], [PAD, 3, 4, 4], [PAD, 5, 6, 7]])).tolist() == [0, -1, -1]


def test_a_filter_bars_the_others() -> None:
    tree = PrefixTree.build([[3, 4, EOS], [3, 5, EOS], [6, EOS]], eos_token_id=EOS)
    processor = TrieLogitsProcessor(tree, prompt_length=0, allowed_documents=[1])
    scores = processor(torch.tensor([[3], [6]]), torch.zeros(2, 8))
    assert [torch.nonzero(row > -1).flatten().tolist() for row in scores] == [[5], [EOS]]


def test_wrong_use_is_an_error() -> None:
    tree = PrefixTree.build([[9, EOS]], eos_token_id=EOS)
    with pytest.raises(UsageError, match="nothing to write"):
        TrieLogitsProcessor(tree, prompt_length=1, allowed_documents=[])
    with pytest.raises(UsageError, match="fewer than the prompt's 4"):
        TrieLogitsProcessor(tree, prompt_length=4)(torch.zeros((1, 3), dtype=torch.int64), torch.zeros(1, 10))
    with pytest.raises(UsageError, match="vocabulary has 5 tokens"):
        TrieLogitsProcessor(tree, prompt_length=1)(torch.zeros((1, 1), dtype=torch.int64), torch.zeros(1, 5))
    with pytest.raises(UsageError, match="prompt_length"):
        TrieLogitsProcessor(tree, prompt_length=-1)
