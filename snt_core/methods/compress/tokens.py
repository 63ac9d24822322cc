r"""Fewer tokens: which ones to merge or to drop, as pure functions on token tensors.

Token merging is bipartite soft matching (Bolya et al., 2023, "Token Merging: Your ViT But Faster",
arXiv:2210.09461, section 3); token pruning keeps the patches that the class token attends to most
(Liang et al., 2022, EViT, arXiv:2202.07800, section 3.2), without any training.
:mod:`snt_core.methods.compress.token_vit` puts both into timm's models; elsewhere::

    import torch
    from snt_core.methods.compress.tokens import match, merge

    # of an attention layer: keys B H N D, with a class token, and tokens B N C
    keys, x = torch.randn(2, 3, 17, 8), torch.randn(2, 17, 24)
    matching = match(keys.mean(1), r=4)
    x, size = merge(x, matching)  # B N-4 C; size: patches that each token stands for

Shapes: B images, N tokens, of which P are the prefix (class token, registers) and come first, C
channels, H heads of D channels. Positions are int64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Matching(NamedTuple):
    """The tokens that stay, and those of them into which the r others are merged.

    Attributes:
        kept: B N-r positions in the old sequence, in the order of the new one.
        merged: B r positions in the old sequence.
        target: B r positions in the new sequence, that of ``merged[i]`` at i.
    """

    kept: Tensor
    merged: Tensor
    target: Tensor


def match(metric: Tensor, r: int, num_prefix_tokens: int = 1) -> Matching:
    """Return the r merges of most similar tokens, by bipartite soft matching.

    The patches alternate between two sets, B (first, third, ...) and A. Each token of A has one
    candidate, the most similar token of B by cosine; the r most similar pairs are merged. The new
    sequence is the prefix, what is left of A, and B.

    Args:
        metric: B N C, what similarity is measured on; at least one patch. It is read in float32,
            since rounding to 8 bits would make most similarities tie.
        r: merges; at most half of the patches, (N - P) // 2, can be, and more are not made.
        num_prefix_tokens: P; these tokens stay first, and nothing is merged into them.
    """
    batch, first = len(metric), num_prefix_tokens
    positions = torch.arange(metric.shape[1], device=metric.device)
    prefix, b_at, a_at = positions[:first], positions[first::2], positions[first + 1 :: 2]
    r = min(r, len(a_at))
    with torch.autocast(metric.device.type, enabled=False):
        wide = torch.promote_types(metric.dtype, torch.float32)
        unit = F.normalize(metric.detach().to(wide), dim=-1)
        cosine = unit[:, first + 1 :: 2] @ unit[:, first::2].mT
    best, nearest = cosine.max(-1)
    # stable, so that ties fall the same way on every run
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, left = order[:, :r], order[:, r:].sort(-1).values
    kept = [prefix.expand(batch, -1), a_at[left], b_at.expand(batch, -1)]
    target = first + len(a_at) - r + nearest.gather(1, merged)
    return Matching(torch.cat(kept, 1), a_at[merged], target)


def merge(x: Tensor, matching: Matching, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Average each merged token into its target, weighted by the patches both stand for.

    Tokens that nothing is merged into stay bit for bit.

    Args:
        x: B N C.
        matching: of the same N tokens.
        size: B N 1, patches that each token stands for; None where it is 1 for all.

    Returns:
        B N-r C tokens, and their sizes, B N-r 1: sum(x * size) and sum(size) are those of before.
    """
    if size is None:
        size = torch.ones_like(x[..., :1], dtype=torch.promote_types(x.dtype, torch.float32))
    gone, gone_size = take(x, matching.merged), take(size, matching.merged)
    x, size = take(x, matching.kept), take(size, matching.kept)
    index = matching.target.unsqueeze(-1)
    size = size.scatter_add(1, index, gone_size)
    share = gone_size / take(size, matching.target)
    # Differences, so that a token that gets nothing stays as it is; shares of the final sizes, so
    # that several may go to one target.
    step = (gone - take(x, matching.target)) * share
    return x.scatter_add(1, index.expand_as(step), step.to(x.dtype)), size


def follow(matching: Matching, position: Tensor | None = None) -> Tensor:
    """Return where to find, after a merge, the token that stands for each original token.

    Args:
        matching: of N tokens.
        position: B M, the same before the merge, in 0..N-1; None before the first, where M = N.

    Returns:
        B M positions in 0..N-r-1.
    """
    kept, merged, target = matching
    tokens = torch.cat([kept, merged], 1)
    new = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    moved = torch.empty_like(tokens).scatter(1, tokens, torch.cat([new, target], 1))
    return moved if position is None else moved.gather(1, position)


def class_attention(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return the attention that the class token, at position 0, pays to each token.

    It is the mean over heads, B N, and adds up to 1 for an image.

    Args:
        q: queries, B H N D.
        k: keys, B H N D.
        scale: factor of the logits before the softmax over all N tokens, usually 1 / sqrt(D).
    """
    with torch.autocast(q.device.type, enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        logits = scale * q[:, :, :1].to(wide) @ k.to(wide).mT
    return logits.softmax(-1).mean(1).squeeze(1)


def top_patches(score: Tensor, keep_ratio: float, num_prefix_tokens: int = 1) -> Tensor:
    """Return the positions of the prefix and of the best-scored patches, in ascending order.

    Args:
        score: B N; the prefix's P scores are not looked at.
        keep_ratio: share of the N - P patches that stay, in (0, 1]; at least one does.
        num_prefix_tokens: P.

    Returns:
        B P+K positions, K = max(1, round(keep_ratio * (N - P))).
    """
    patches = score.detach()[:, num_prefix_tokens:]
    count = max(1, round(keep_ratio * patches.shape[1]))
    best = patches.argsort(dim=-1, descending=True, stable=True)[:, :count].sort(-1).values
    prefix = torch.arange(num_prefix_tokens, device=score.device).expand(len(score), -1)
    return torch.cat([prefix, num_prefix_tokens + best], 1)


def take(x: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens of ``x``, B N C, at these positions, B K: B K C."""
    # whole rows are copied; gather would fetch each number by itself, slower on a CPU
    first = x.shape[1] * torch.arange(len(x), device=x.device).unsqueeze(-1)
    rows = x.flatten(0, 1).index_select(0, (first + positions).flatten())
    return rows.unflatten(0, positions.shape)
