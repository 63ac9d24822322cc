"""Token merging and token pruning in any of timm's VisionTransformers.

Both need no training, and return a copy of the same class with the same state dict::

    from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens

    my_model = timm.create_model("vit_base_patch16_224", pretrained=True)
    merged = merge_tokens(my_model, r=8)  # my_model stays as it was
    pruned = prune_tokens(my_model, keep_ratio=0.7)
    logits = merged(images)

Only ``model.blocks`` is replaced. Class token, registers, LayerScale, query and key norms, every
kind of pooling, and weights that are pruned or quantized are carried over, and nothing is kept
between forward passes. The methods are those of :mod:`snt_core.methods.compress.tokens`; both act
between the attention and the MLP of a block, as in their papers. Not carried over are hooks on the
blocks themselves and, in merging, gradient checkpointing and ``forward_intermediates``.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.common.vision import torchvision
from snt_core.methods.compress.tokens import (
    class_attention,
    follow,
    match,
    merge,
    take,
    top_patches,
)


def merge_tokens(model: nn.Module, r: int) -> nn.Module:
    """Return a copy of a ViT that merges r pairs of similar patches in each block.

    Similarity is that of the attention's keys, averaged over the heads. In later attention a merged
    token counts as the patches that it stands for. After the last block each patch gets the token
    that stands for it: features keep their shape, and every kind of pooling, averages too, weighs a
    merged token by its patches. With r = 0 the model computes what it did.

    Args:
        model: timm's VisionTransformer.
        r: pairs to merge in each block; all of them, half of the patches, where those are fewer.

    Raises:
        ValueError: ``r`` is negative, or the model is not a VisionTransformer of plain blocks.
    """
    if r < 0:
        raise ValueError(f"r {r} is negative: it is the number of merges in each block")
    vit = _copy(model)
    blocks = MergeBlocks(MergeBlock(block, r, vit.num_prefix_tokens) for block in vit.blocks)
    blocks.training = vit.blocks.training
    vit.blocks = blocks
    vit.grad_checkpointing = False  # it would run the blocks without their sizes
    return vit


def prune_tokens(model: nn.Module, keep_ratio: float) -> nn.Module:
    """Return a copy of a ViT that drops the patches to which the class token attends least.

    Three blocks do so, those that follow a quarter, half and three quarters of the depth, which
    are EViT's: the 4th, 7th and 10th of 12. Each keeps ``keep_ratio`` of the patches that reach it,
    in their order. Average pooling is over those that are left. With ``keep_ratio`` 1 the model
    computes what it did.

    Args:
        model: timm's VisionTransformer with a class token.
        keep_ratio: share of the patches that stay, in (0, 1]; at least one does.

    Raises:
        ValueError: ``keep_ratio`` is outside (0, 1], the model has no class token, or is not a
            VisionTransformer of plain blocks.
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio {keep_ratio} is outside (0, 1]: it is the share that stays")
    vit = _copy(model)
    if vit.cls_token is None:
        raise ValueError("the model has no class token, whose attention says which patches stay")
    # a set, since quarters of a net of fewer than four blocks coincide
    for i in {len(vit.blocks) * quarter // 4 for quarter in (1, 2, 3)}:
        vit.blocks[i] = PruneBlock(vit.blocks[i], keep_ratio, vit.num_prefix_tokens)
    return vit


class TokenBlock(nn.Module):
    """The layers of timm's ``Block``, under their names, in two halves."""

    def __init__(self, block: Any, num_prefix_tokens: int) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn
        self.ls1, self.drop_path1 = block.ls1, block.drop_path1
        self.norm2, self.mlp = block.norm2, block.mlp
        self.ls2, self.drop_path2 = block.ls2, block.drop_path2
        self.num_prefix_tokens = num_prefix_tokens
        self.training = block.training

    def attend(self, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens after the attention, and queries and keys as :func:`attention` does."""
        out, q, k = attention(self.attn, self.norm1(x), size)
        return x + self.drop_path1(self.ls1(out)), q, k

    def feed(self, x: Tensor) -> Tensor:
        """Return the tokens after the MLP, B N C."""
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class MergeBlock(TokenBlock):
    """A block that merges r pairs of patches between attention and MLP."""

    def __init__(self, block: Any, r: int, num_prefix_tokens: int) -> None:
        super().__init__(block, num_prefix_tokens)
        self.r = r

    def forward(
        self, x: Tensor, size: Tensor | None, position: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return tokens, their sizes, and where each token of the first block now is.

        Sizes and places are None before the first merge, here as among the arguments.
        """
        x, q, k = self.attend(x, size)
        if self.r:
            # the sum over the heads has the mean's direction, and takes a CPU half the time
            metric = cast(Tensor, sum(k.unbind(1)))  # mypy: sum() of nothing would be 0
            matching = match(metric, self.r, self.num_prefix_tokens)
            x, size = merge(x, matching, size)
            position = follow(matching, position)
        del q, k  # the MLP may have their memory
        return self.feed(x), size, position


class MergeBlocks(nn.ModuleList):
    """MergeBlocks in turn, after which every patch gets the token that stands for it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape, B N C."""
        size = position = None
        for block in self:
            x, size, position = block(x, size, position)
        return x if position is None else take(x, position)


class PruneBlock(TokenBlock):
    """A block that keeps the patches with the most class attention, before its MLP."""

    def __init__(self, block: Any, keep_ratio: float, num_prefix_tokens: int) -> None:
        super().__init__(block, num_prefix_tokens)
        self.keep_ratio = keep_ratio

    def forward(self, x: Tensor) -> Tensor:
        x, q, k = self.attend(x)
        if self.keep_ratio < 1:
            score = class_attention(q, k, self.attn.scale)
            x = take(x, top_patches(score, self.keep_ratio, self.num_prefix_tokens))
        del q, k  # the MLP may have their memory
        return self.feed(x)


def attention(attn: Any, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
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
    bias = None if size is None else size.log().to(q.dtype).mT.unsqueeze(1)  # B 1 1 N
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


def _copy(model: nn.Module) -> Any:
    """Return a copy of a VisionTransformer whose blocks compute what :class:`TokenBlock` does.

    Raises:
        ValueError: it is something else.
    """
    torchvision()  # timm imports it
    from timm.models.vision_transformer import Attention, Block, VisionTransformer

    for block in getattr(model, "blocks", ()):
        if type(block).forward is not Block.forward:
            raise ValueError(f"blocks of class {type(block).__name__}: only timm's Block is known")
        if type(block.attn).forward is not Attention.forward:
            kind = type(block.attn).__name__
            raise ValueError(f"Block with a {kind}: only timm's Attention is known")
    if not isinstance(model, VisionTransformer):
        raise ValueError(f"{type(model).__name__} is not a timm VisionTransformer")
    return copy.deepcopy(model)
