"""Merging and pruning of token tensors against plain loops written from the papers."""

from __future__ import annotations

import math
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snt_core.methods.compress.tokens import (
    class_attention,
    follow,
    match,
    merge,
    take,
    top_patches,
)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Tensor, int]:
    """B N C in float64 without ties, and P < N."""
    batch, prefix, patches, channels = (draw(st.integers(*b)) for b in BOUNDS)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (batch, prefix + patches, channels)
    return torch.randn(shape, generator=generator, dtype=torch.float64), prefix


BOUNDS = (1, 3), (0, 4), (1, 12), (2, 5)
merges = st.integers(0, 8)


def dot(a: list[float], b: list[float]) -> float:
    return sum(map(operator.mul, a, b))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.hypot(*a) / math.hypot(*b)


def merged_groups(metric: list[list[float]], r: int, prefix: int) -> list[list[int]]:
    """Bipartite soft matching of one image, as the paper lists its five steps.

    Returns the new sequence: of each token, the positions in the old one that it stands for.
    """
    patches = range(prefix, len(metric))
    set_b, set_a = patches[0::2], patches[1::2]  # 1. two sets, alternating
    edges = []  # 2. from each token in A to its most similar token in B
    for a in set_a:
        nearest = max(set_b, key=lambda b: cosine(metric[a], metric[b]))
        edges.append((cosine(metric[a], metric[nearest]), a, nearest))
    edges = sorted(edges, reverse=True)[:r]  # 3. the r most similar edges stay
    gone = {a: b for _, a, b in edges}
    members = {b: [b] + [a for a, into in gone.items() if into == b] for b in set_b}  # 4. merge
    # 5. the two sets together again
    return (
        [[p] for p in range(prefix)]
        + [[a] for a in set_a if a not in gone]
        + [members[b] for b in set_b]
    )


@settings(max_examples=60, deadline=None)
@given(sequence=sequences(), rs=st.lists(merges, max_size=3))
def test_repeated_merging_equals_the_plain_loop(
    sequence: tuple[Tensor, int], rs: list[int]
) -> None:
    start, prefix = sequence
    x, size, position = start, None, None
    groups = [[[n] for n in range(start.shape[1])] for _ in start]  # of original tokens
    for r in rs:
        for i, image in enumerate(x.tolist()):
            new = merged_groups(image, r, prefix)
            groups[i] = [[n for old in token for n in groups[i][old]] for token in new]
        matching = match(x, r, prefix)
        x, size = merge(x, matching, size)
        position = follow(matching, position)
    for i, tokens in enumerate(groups):
        # however often it was merged, a token is the mean of the originals that it stands for
        means = torch.stack([start[i, members].mean(0) for members in tokens])
        torch.testing.assert_close(x[i], means)
        if rs:
            assert size[i, :, 0].tolist() == [len(members) for members in tokens]
            assert all(position[i, n] == t for t, members in enumerate(tokens) for n in members)


@settings(max_examples=60, deadline=None)
@given(sequence=sequences(), r=merges, seed=st.integers(0, 99))
def test_merging_conserves_what_is_there(sequence: tuple[Tensor, int], r: int, seed: int) -> None:
    x, prefix = sequence
    generator = torch.Generator().manual_seed(seed)
    size = torch.randint(1, 20, (*x.shape[:2], 1), generator=generator).double()
    matching = match(x, r, prefix)
    fewer, fewer_size = merge(x, matching, size)
    patches = x.shape[1] - prefix
    assert fewer.shape[1] == prefix + patches - min(r, patches // 2)
    torch.testing.assert_close((fewer * fewer_size).sum(1), (x * size).sum(1))
    assert torch.equal(fewer_size.sum(1), size.sum(1))
    # prefix tokens, and patches that nothing is merged into, stay bit for bit
    assert torch.equal(fewer[:, :prefix], x[:, :prefix])
    alone = fewer_size == take(size, matching.kept)
    assert torch.equal(fewer[alone[..., 0]], take(x, matching.kept)[alone[..., 0]])
    assert int((~alone).sum()) <= len(x) * r


def test_a_merge_of_unequal_sizes_is_weighted() -> None:
    x = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [2.0, 0.0]]])
    fewer, size = merge(x, match(x, r=1), torch.tensor([[[1.0], [3.0], [1.0]]]))
    assert fewer.tolist() == [[[9.0, 9.0], [1.25, 0.0]]]
    assert size.tolist() == [[[1.0], [4.0]]]


def test_tokens_are_compared_in_float32_under_autocast() -> None:
    metric = 1 + 0.03 * torch.randn(2, 33, 8, generator=torch.Generator().manual_seed(0))
    q, k = metric.view(2, 1, 3, 11, 8).unbind()
    exact, score = match(metric.double(), r=5), class_attention(q, k, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, rounded_score = match(metric, r=5), class_attention(q, k, 0.1)
    assert all(map(torch.equal, exact, rounded))
    assert torch.equal(rounded_score, score)


def test_ties_fall_to_the_first_tokens() -> None:
    matching = match(torch.ones(1, 9, 3), r=2)
    assert matching.kept.tolist() == [[0, 6, 8, 1, 3, 5, 7]]
    assert matching.merged.tolist() == [[2, 4]]
    assert matching.target.tolist() == [[3, 3]]


def test_low_precision_tokens_keep_their_format_and_exact_sizes() -> None:
    x = torch.randn(1, 602, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    size = None
    for _ in range(10):
        x, size = merge(x, match(x, r=300), size)
    assert x.dtype == torch.bfloat16
    assert size.flatten().tolist() == [1, 601]  # bfloat16 has 600 and 604


@settings(max_examples=60, deadline=None)
@given(sequence=sequences(), keep_ratio=st.floats(0, 1, exclude_min=True))
def test_pruning_keeps_the_highest_scores_in_order(
    sequence: tuple[Tensor, int], keep_ratio: float
) -> None:
    score, prefix = sequence[0][..., 0], sequence[1]
    count = max(1, round(keep_ratio * (score.shape[1] - prefix)))
    for row, kept in zip(score.tolist(), top_patches(score, keep_ratio, prefix).tolist()):
        best = sorted(range(prefix, len(row)), key=lambda n: row[n])[-count:]
        assert kept == [*range(prefix), *sorted(best)]


def test_class_attention_equals_a_loop_over_heads() -> None:
    q, k = torch.randn(2, 2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    found = class_attention(q, k, scale=0.7)
    for b in range(2):
        rows = []
        for h in range(3):
            logits = [0.7 * dot(q[b, h, 0].tolist(), key) for key in k[b, h].tolist()]
            total = sum(map(math.exp, logits))
            rows.append([math.exp(logit) / total for logit in logits])
        assert found[b].tolist() == pytest.approx([sum(column) / 3 for column in zip(*rows)])


def test_take() -> None:
    x = torch.arange(24).view(2, 4, 3).transpose(0, 1).contiguous().transpose(0, 1)  # strided
    positions = torch.tensor([[3, 0, 0], [1, 2, 3]])
    expected = [[x[b, n].tolist() for n in row] for b, row in enumerate(positions.tolist())]
    assert take(x, positions).tolist() == expected
