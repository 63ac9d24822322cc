"""Blocks of a ViT that merge or drop tokens, of the layers of timm's and torchvision's blocks.

They keep the names of those layers, and nothing between forward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.compress.tokens import (
    class_attention,
    follow,
    match,
    merge,
    take,
    top_patches,
)

Attended = tuple[Tensor, Tensor, Tensor]  # tokens B N C; queries and keys, B H N D
Places = tuple[Tensor, Tensor | None, Tensor | None]  # tokens, their sizes, where each patch is now


@dataclass(frozen=True)
class Family:
    """How the blocks of a library compute, as functions of a block with its layers.

    Attributes:
        attend: the first half, of block, tokens and sizes; also returns queries and keys.
        feed: the second half, of block and tokens.
        scale: the factor of the attention's logits.
    """

    attend: Callable[[Any, Tensor, Tensor | None], Attended]
    feed: Callable[[Any, Tensor], Tensor]
    scale: Callable[[Any], float]


class TokenBlock(nn.Module):
    """The layers of a block, under their names, in two halves."""

    def __init__(self, block: nn.Module, family: Family, num_prefix_tokens: int) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        self.family = family
        self.num_prefix_tokens = num_prefix_tokens
        self.training = block.training


class MergeBlock(TokenBlock):
    """A block that merges r pairs of patches between attention and MLP; `first` of its model?"""

    def __init__(
        self, block: nn.Module, family: Family, num_prefix_tokens: int, r: int, *, first: bool
    ) -> None:
        super().__init__(block, family, num_prefix_tokens)
        self.r = r
        self.first = first

    def compact(self, x: Tensor, size: Tensor | None, position: Tensor | None) -> Places:
        """Return tokens, their sizes, and where each token of the first block now is.

        Sizes and places are None before the first merge, here as among the arguments.
        """
        x, q, k = self.family.attend(self, x, size)
        # the sum over the heads has the mean's direction, and takes a CPU half the time
        metric = cast(Tensor, sum(k.unbind(1)))  # mypy: sum() of nothing would be 0
        matching = match(metric, self.r, self.num_prefix_tokens)
        x, size = merge(x, matching, size)
        position = follow(matching, position)
        del q, k  # the MLP may have their memory
        return self.family.feed(self, x), size, position

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return features of the first block's tokens, B N C: each has those of its token.

        This is how blocks are called one by one, by `forward_intermediates` among others. The
        result carries the merged tokens, from which the next block goes on.
        """
        require_no_mask(attn_mask, is_causal)
        places: Places | None = getattr(x, "merged", None)
        if places is None and not self.first:
            raise ValueError(
                "a block of a merged ViT got tokens that the block before it did not return: "
                "gradient checkpointing, or a hook that replaces them, loses what was merged"
            )
        x, size, position = self.compact(*(places or (x, None, None)))
        assert position is not None
        whole = take(x, position)
        whole.merged = x, size, position  # type: ignore[attr-defined]
        return whole


class MergeBlocks(nn.Sequential):
    """MergeBlocks in turn, after which every patch gets the token that stands for it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape, B N C."""
        blocks = [cast(MergeBlock, block) for block in self]
        if any(block._forward_hooks or block._forward_pre_hooks for block in blocks):
            for block in blocks:  # what they read must be a map
                x = block(x)
            return x
        places: Places = x, None, None
        for block in blocks:
            places = block.compact(*places)
        return x if places[2] is None else take(places[0], places[2])


class PruneBlock(TokenBlock):
    """A block that keeps the patches with the most class attention, before its MLP."""

    def __init__(
        self, block: nn.Module, family: Family, num_prefix_tokens: int, keep_ratio: float
    ) -> None:
        super().__init__(block, family, num_prefix_tokens)
        self.keep_ratio = keep_ratio

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return the tokens that stay, B K C."""
        require_no_mask(attn_mask, is_causal)
        x, q, k = self.family.attend(self, x, None)
        score = class_attention(q, k, self.family.scale(self))
        x = take(x, top_patches(score, self.keep_ratio, self.num_prefix_tokens))
        del q, k  # the MLP may have their memory
        return self.family.feed(self, x)


def require_no_mask(attn_mask: Tensor | None, is_causal: bool) -> None:
    """Raise ValueError if there is a mask."""
    if attn_mask is not None or is_causal:
        raise ValueError(
            "an attention mask is of all patches, and this ViT has merged or dropped some"
        )


def refuse_maps(*args: Any, **options: Any) -> Any:
    """Raise ValueError: it stands for the methods that return maps of all patches."""
    raise ValueError("a pruned ViT has no map of all patches to return: some have been dropped")


def attention(attn: Any, x: Tensor, size: Tensor | None = None) -> Attended:
    """Return what timm's ``Attention`` gives among tokens that stand for several patches each.

    A token of size s is attended to as s equal tokens would be: s exp(l) = exp(l + log s).

    Args:
        attn: timm's layer; its ``fused_attn`` chooses between SDPA and explicit products.
        x: B N C.
        size: B N 1; None where it is 1 for all, which spares the mask.

    Returns:
        Output, B N C; queries and keys after their norms, B H N D.
    """
    B, N, _ = x.shape
    q, k, v = attn.qkv(x).reshape(B, N, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    bias = _log(size, q)
    if attn.fused_attn:
        dropout = attn.attn_drop.p if attn.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    else:
        logits = (q * attn.scale) @ k.mT
        logits = logits if bias is None else logits + bias
        out = attn.attn_drop(logits.softmax(-1)) @ v
    out = out.transpose(1, 2).flatten(2)
    # timm 1.0.15 has neither of the two
    if hasattr(attn, "norm"):
        out = attn.norm(out)
    if getattr(attn, "gate", None) is not None:
        out = out * attn.gate(x).sigmoid()
    return attn.proj_drop(attn.proj(out)), q, k


def packed_attention(
    attn: nn.MultiheadAttention, x: Tensor, size: Tensor | None = None
) -> Attended:
    """Return what :func:`attention` does, for torch's layer with one matrix for q, k and v."""
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropout = attn.dropout if attn.training else 0.0
    bias = _log(size, q)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    return attn.out_proj(out.transpose(1, 2).flatten(2)), q, k


def _log(size: Tensor | None, like: Tensor) -> Tensor | None:
    """Return what sizes, B N 1, add to the logits, B 1 1 N."""
    return None if size is None else size.log().to(like.dtype).mT.unsqueeze(1)


def _timm_attend(block: Any, x: Tensor, size: Tensor | None) -> Attended:
    out, q, k = attention(block.attn, block.norm1(x), size)
    return x + block.drop_path1(block.ls1(out)), q, k


def _timm_feed(block: Any, x: Tensor) -> Tensor:
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _torchvision_attend(block: Any, x: Tensor, size: Tensor | None) -> Attended:
    out, q, k = packed_attention(block.self_attention, block.ln_1(x), size)
    return block.dropout(out) + x, q, k


def _torchvision_feed(block: Any, x: Tensor) -> Tensor:
    return x + block.mlp(block.ln_2(x))


def _timm_scale(block: Any) -> float:
    return block.attn.scale


def _torchvision_scale(block: Any) -> float:
    return block.self_attention.head_dim**-0.5


TIMM = Family(_timm_attend, _timm_feed, _timm_scale)
TORCHVISION = Family(_torchvision_attend, _torchvision_feed, _torchvision_scale)
