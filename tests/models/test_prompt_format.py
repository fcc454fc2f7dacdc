"""What a generator reads and writes: the passage is cut, never the instruction; a target always keeps its EOS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase

from retgen.errors import UsageError
from retgen.models.prompt_format import PRESETS, PromptFormat, end_token_id, find_format
from retgen.types import Document
from tests.models.checkpoints import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer

TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "sentencepiece": sentencepiece_tokenizer,
    "wordpiece": wordpiece_tokenizer,
    "byte level": byte_level_tokenizer,
    "not fast": ByT5Tokenizer,
}
MARS = Document("m", "The planet Mars has two moons, Phobos and Deimos. " * 8, title="The naïve reader")
UPR = PRESETS["upr"]


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


def plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    ("preset", "document", "expected"),
    [
        ("jpr", Document("d", "b", "a"), "a b"),
        ("jpr", Document("d", "b"), "b"),
        ("jpr", Document("d", "", "a"), "a"),
        ("jpr", Document("d", ""), ""),
        ("jpr-beir", Document("d", "b", "a"), "Passage: a b"),
        ("jpr-beir", Document("d", " b "), "Passage: b"),
        ("jpr-beir", Document("d", ""), "Passage:"),
        ("upr", Document("d", "b", "a"), "Passage: a b. Please write a question based on this passage."),
        ("upr", Document("d", "b"), "Passage: b. Please write a question based on this passage."),
        ("upr", Document("d", "", "a"), "Passage: a. Please write a question based on this passage."),
        ("jpr", Document("d", "{title} {0}", "{text}"), "{text} {title} {0}"),
    ],
)
def test_rendering(preset: str, document: Document, expected: str) -> None:
    assert PRESETS[preset].passage_text(document) == expected


def test_presets_have_the_documented_lengths_and_reductions() -> None:
    assert {name: (p.max_passage_tokens, p.max_query_tokens, p.reduction) for name, p in PRESETS.items()} == {
        "jpr": (512, 128, "mean"),
        "jpr-beir": (512, 128, "mean"),
        "authors-code": (256, 64, "mean"),
        "authors-code-beir": (256, 64, "mean"),
        "upr": (512, 128, "sum"),
        "upr-causal": (512, 128, "sum"),
    }
    assert PRESETS["upr"].query_text("who") == "Question: who?"
    assert PRESETS["jpr"].query_text("who") == "who"


def test_what_fits_is_the_tokenizers_own(tokenizer: PreTrainedTokenizerBase) -> None:
    passage = Document("d", "Iron melts at 1538 °C", "Iron")
    for preset in PRESETS.values():
        assert preset.passage_ids(tokenizer, [passage]) == [plain(tokenizer, preset.passage_text(passage))]


@pytest.mark.parametrize("limit", [60, 100, 173])
def test_cut_passages_fit_and_keep_title_and_instruction(tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
    instruction = " Please write a question."
    own = PromptFormat("own", "Passage: {title} {text}." + instruction, max_passage_tokens=limit)
    (ids,) = own.passage_ids(tokenizer, [MARS])
    assert len(ids) <= limit
    # They begin and end as the whole does, and little that would have fitted is left out.
    whole = plain(tokenizer, own.passage_text(MARS))
    behind = len(plain(tokenizer, "." + instruction)) - len(plain(tokenizer, "")) - 1
    assert ids[-behind:] == whole[-behind:]
    assert ids[: limit // 4] == whole[: limit // 4]
    assert len(ids) >= min(limit, len(whole)) - 10


def test_without_room_for_text_the_title_is_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    bare = len(plain(tokenizer, UPR.passage_text(Document("d", ""))))
    own = replace(UPR, max_passage_tokens=bare + 6)
    long_title = Document("d", "some text", title="tin " * 50)
    (ids,) = own.passage_ids(tokenizer, [long_title])
    assert bare <= len(ids) <= bare + 6
    assert (
        plain(tokenizer, " ".join(["Passage:", "x. Please write a question based on this passage."]))[-4:] == ids[-4:]
    )
    with pytest.raises(UsageError, match=f"the template alone has {bare} tokens"):
        replace(UPR, max_passage_tokens=bare - 1).passage_ids(tokenizer, [long_title])


def test_one_endless_word_is_cut_too(tokenizer: PreTrainedTokenizerBase) -> None:
    (ids,) = replace(PRESETS["jpr"], max_passage_tokens=8).passage_ids(tokenizer, [Document("d", "tinmoon" * 200)])
    assert 1 <= len(ids) <= 8


def test_targets_end_with_eos_however_long(tokenizer: PreTrainedTokenizerBase) -> None:
    end = end_token_id(tokenizer)
    own = replace(PRESETS["jpr"], max_query_tokens=20)
    empty, short, long = own.query_ids(tokenizer, ["", "who melts tin", "moons " * 600])
    assert empty == [end]
    assert short[-1] == end
    assert end not in short[:-1]
    assert len(long) == 20
    assert long[-1] == end
    assert replace(own, append_eos=False).query_ids(tokenizer, ["", "who melts tin"]) == [[], short[:-1]]


def test_a_t5_target_is_the_tokenizers_own() -> None:
    tokenizer = sentencepiece_tokenizer()
    assert PRESETS["jpr"].query_ids(tokenizer, ["who melts tin"]) == [plain(tokenizer, "who melts tin")]


def test_nothing_gives_nothing() -> None:
    assert PRESETS["jpr"].passage_ids(wordpiece_tokenizer(), []) == []
    assert PRESETS["jpr"].query_ids(wordpiece_tokenizer(), []) == []


@pytest.mark.parametrize("template", ["no field", "{text} {text}", "{text} {body}", "{text", "{text!r}", "{text:>9}"])
def test_unusable_templates(template: str) -> None:
    with pytest.raises(UsageError):
        PromptFormat("own", passage_template=template)


@pytest.mark.parametrize("options", [{"max_passage_tokens": 0}, {"max_query_tokens": 0}, {"reduction": "max"}])
def test_unusable_settings(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PromptFormat("own", **options)  # type: ignore[arg-type]


def test_unknown_presets_are_named() -> None:
    assert find_format("upr") is UPR
    assert find_format(UPR) is UPR
    with pytest.raises(UsageError, match="'urp'"):
        find_format("urp")
