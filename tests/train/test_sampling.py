"""Batches of similar length: every example once an epoch, in an order that seed and epoch alone decide."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler
from transformers import TrainerControl, TrainerState, TrainingArguments

from retgen.train.epochs import EpochDataset
from retgen.train.examples import UniGenExample
from retgen.train.sampling import FollowEpochs, LengthBucketSampler


@given(
    lengths=st.lists(st.integers(0, 500), max_size=120),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    epoch=st.integers(0, 50),
    chunk=st.integers(1, 5),
)
def test_every_epoch_is_a_permutation(lengths: list[int], batch_size: int, seed: int, epoch: int, chunk: int) -> None:
    sampler = LengthBucketSampler(lengths, batch_size, seed, chunk)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)
    random.random()  # global random state does not matter
    assert list(sampler) == order


@given(st.integers(0, 1000))
def test_epochs_and_seeds_differ(seed: int) -> None:
    lengths = [n % 37 for n in range(200)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthBucketSampler(lengths, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = [order(seed, epoch) for epoch in range(4)] + [order(seed + 1, 0)]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])


@pytest.mark.parametrize("count", [160, 163, 2000])
def test_batches_hold_similar_lengths(count: int) -> None:
    chance = random.Random(1)
    lengths = [chance.randrange(10, 500) for _ in range(count)]

    def padding(order: list[int]) -> int:
        return sum(max(lengths[n] for n in batch) * len(batch) for batch in BatchSampler(order, 8, drop_last=False))

    plain = list(range(count))
    wasted = padding(plain) - sum(lengths)
    assert padding(list(LengthBucketSampler(lengths, 8, 0))) - sum(lengths) < 0.25 * wasted


def test_the_loaders_batches_are_the_samplers() -> None:
    """The one short batch stands last, or the loader would cut the others anew."""
    lengths = [n * 10 for n in range(43)]
    for epoch in range(5):
        sampler = LengthBucketSampler(lengths, 4, 3, chunk=3)
        sampler.set_epoch(epoch)
        batches = list(BatchSampler(sampler, 4, drop_last=False))
        assert [len(batch) for batch in batches] == [4] * 10 + [3]
        for batch in batches[:-1]:
            assert batch == sorted(batch)


def test_batches_come_in_random_order() -> None:
    lengths = list(range(400))
    sampler = LengthBucketSampler(lengths, 4, 0, chunk=100)
    firsts = [batch[0] for batch in BatchSampler(sampler, 4, drop_last=False)]
    assert firsts != sorted(firsts)


def test_epochs_are_told_to_all_parts(tmp_path: object) -> None:
    sampler, data = LengthBucketSampler([1, 2], 1, 0), EpochDataset([UniGenExample("a")])
    callback = FollowEpochs(sampler, data)
    state, control = TrainerState(), TrainerControl()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for epoch, expected in ((None, 0), (0.0, 0), (0.9, 0), (1.0, 1), (2.333, 2)):
        state.epoch = epoch
        callback.on_epoch_begin(arguments, state, control)
        assert (sampler.epoch, data.epoch) == (expected, expected)
