"""Where blocks, docids and copies of an input stand, on inputs made by hand."""

from __future__ import annotations

import torch

from retgen.models.layout import SourceLayout, next_match, prefix_matches, question_matches, source_layout
from tests.models.builders import BAR, END, EOS, PAD, VOCAB, inputs

A, B, C, D, E = 10, 11, 12, 13, 14


def laid_out(*rows: list[int], max_blocks: int = 3, boundary: int | None = BAR, end: int | None = END) -> SourceLayout:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    weights = torch.ones(VOCAB)
    weights[:5] = 0.0
    return source_layout(
        ids, mask, weights, boundary_token_id=boundary, docid_end_token_id=end, eos_token_id=EOS, max_blocks=max_blocks
    )


def places(part: torch.Tensor) -> list[int]:
    return part.nonzero().squeeze(1).tolist()


def test_a_written_context() -> None:
    #                  0  1  2    3  4  5    6  7    8  9    10   11
    layout = laid_out([A, B, BAR, C, D, END, A, BAR, E, END, BAR, EOS])
    assert layout.block[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3]
    assert places(layout.docid_start[0]) == [3, 8]
    assert places(layout.copyable[0]) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert layout.copy_ids[0].tolist() == [A, B, EOS, C, D, EOS, A, EOS, E, EOS, EOS, EOS]
    assert layout.overlap[0].tolist() == [0.0, 0.5, 0.0, 0.0]  # block 1 repeats A, of A and B


def test_a_text_without_boundaries_is_one_block() -> None:
    for layout in (laid_out([A, B, C, EOS]), laid_out([A, B, C, EOS], boundary=None, end=None)):
        assert places(layout.copyable[0]) == [0, 1, 2]
        assert layout.block[0].tolist() == [0, 0, 0, 0]
        assert places(layout.docid_start[0]) == []
        assert layout.copy_ids[0].tolist() == [A, B, C, EOS]
        assert layout.overlap[0].tolist() == [0.0] * 4
    written = laid_out([A, BAR, B, EOS], boundary=None, end=None)
    assert written.copy_ids[0].tolist() == [A, BAR, B, EOS]


def test_empty_blocks_hold_no_docid() -> None:
    #                  0  1    2    3    4  5    6
    layout = laid_out([A, BAR, BAR, END, B, BAR, EOS])
    assert places(layout.docid_start[0]) == []
    assert places(layout.copyable[0]) == [1, 2, 3, 4, 5]
    assert bool(torch.isfinite(layout.overlap).all())


def test_an_input_without_question() -> None:
    layout = laid_out([BAR, A, END, B, BAR, EOS], [A, EOS])
    assert places(layout.docid_start[0]) == [1]
    assert layout.overlap[0].tolist() == [0.0] * 4
    assert places(layout.copyable[1]) == [0]


def test_blocks_beyond_the_last_share_its_number() -> None:
    row = [A]
    for _ in range(5):
        row += [BAR, B, END]
    layout = laid_out([*row, BAR, EOS], max_blocks=3)
    assert int(layout.block.max()) == 3
    assert len(places(layout.docid_start[0])) == 5
    assert layout.overlap.shape == (1, 4)


def test_a_context_cut_within_a_docid() -> None:
    layout = laid_out([A, BAR, B, END, C, BAR, D, E])
    assert places(layout.docid_start[0]) == [2, 6]
    matches = prefix_matches(layout, torch.tensor([[D, E]]), docids=True)[0]
    assert [places(step) for step in matches] == [[2, 6], [7], []]


def test_padding_is_nothing() -> None:
    short, long = [A, BAR, B, END, C, BAR, EOS], [A, BAR, B, END, C, C, C, C, BAR, EOS]
    alone, beside = laid_out(short), laid_out(short, long)
    for name in ("block", "copyable", "docid_start"):
        assert getattr(alone, name)[0].tolist() == getattr(beside, name)[0, : len(short)].tolist()
        assert not bool(getattr(beside, name)[0, len(short) :].any())
    assert torch.equal(alone.overlap[0], beside.overlap[0])


def test_docids_are_matched_whole_and_answers_anywhere() -> None:
    #                  0  1    2  3  4    5  6  7    8  9  10   11
    layout = laid_out([A, BAR, B, C, END, B, D, BAR, B, D, END, BAR])
    as_docid = prefix_matches(layout, torch.tensor([[B, D, EOS]]), docids=True)[0]
    assert [places(step) for step in as_docid] == [[2, 8], [3, 9], [10], [11]]
    as_answer = prefix_matches(layout, torch.tensor([[B, D]]), docids=False)[0]
    assert [places(step) for step in as_answer[1:]] == [[3, 6, 9], [7, 10]]


def test_rows_are_matched_as_single_inputs_are() -> None:
    layout = laid_out([A, BAR, B, C, END, B, D, BAR, B, D, END, BAR], [A, BAR, C, END, D, BAR, EOS])
    start = layout.docid_start.unsqueeze(1).expand(-1, 2, -1)
    tokens = torch.tensor([[B, C], [C, D]])
    together = next_match(layout, start, tokens)
    for row in range(2):
        assert torch.equal(together[:, row], next_match(layout, layout.docid_start, tokens[:, row]))


def test_repeating_goes_query_by_query() -> None:
    layout = laid_out([A, BAR, B], [A, B, C])
    assert layout.repeat(2).block.tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_matches_with_the_question_are_weighed() -> None:
    ids = torch.tensor([[A, B, BAR, A, C, END, B, BAR, EOS]])
    weights = torch.zeros(VOCAB)
    weights[[A, B, C]] = torch.tensor([0.5, 1.0, 1.0])
    layout = laid_out(ids[0].tolist())
    found = question_matches(layout, ids, torch.ones_like(ids), weights)
    assert places(found[0, :, 0]) == [3, 6]
    assert found[0, [3, 6], 1].tolist() == [0.5, 1.0]


def test_layouts_of_random_inputs_hold_together() -> None:
    ids, mask = inputs(seed=5, batch=20)
    weights = torch.ones(VOCAB)
    weights[:5] = 0.0
    layout = source_layout(
        ids, mask, weights, boundary_token_id=BAR, docid_end_token_id=END, eos_token_id=EOS, max_blocks=3
    )
    assert not bool((layout.docid_start & ~layout.copyable).any())
    assert not bool((layout.copyable & (mask == 0)).any())
    assert bool((layout.docid_start.sum(dim=1) == (ids == END).sum(dim=1)).all())
    assert float(layout.overlap.min()) >= 0.0
    assert float(layout.overlap.max()) <= 1.0 + 1e-6
    # Copying a docid from its start writes it and EOS.
    for query, begin in layout.docid_start.nonzero().tolist():
        stop = ids[query].tolist().index(END, begin)
        assert layout.copy_ids[query, begin : stop + 1].tolist() == [*ids[query, begin:stop].tolist(), EOS]
