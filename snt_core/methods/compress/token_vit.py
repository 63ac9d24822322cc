"""Token merging and token pruning in any of timm's and torchvision's VisionTransformers.

Both need no training, and return a copy of the same class with the same state dict::

    from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens

    merged = merge_tokens(my_vit, r=2)  # my_vit stays as it was
    pruned = prune_tokens(my_vit, keep_ratio=0.7)
    logits = merged(images)

Only the blocks are replaced. Class token, registers, LayerScale, query and key norms, every
kind of pooling, patch dropout, images of other sizes, and weights that are pruned or quantized are
carried over, and nothing is kept between forward passes. The methods are those of
:mod:`snt_core.methods.compress.tokens`; both act between the attention and the MLP of a block, as
in their papers.

A merged ViT has maps of all its patches: ``forward_intermediates``, ``get_intermediate_layers``
and hooks on its blocks get them. A pruned one has none, and refuses the first two. Both refuse
attention masks. Not carried over are hooks on the blocks of the given model and, in merging,
gradient checkpointing, until it is set again.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import nn

from snt_core.common.arguments import require_number, require_whole
from snt_core.common.vision import torchvision
from snt_core.methods.compress.token_blocks import (
    TIMM,
    TORCHVISION,
    Family,
    MergeBlock,
    MergeBlocks,
    PruneBlock,
    refuse_maps,
)
from snt_core.methods.models.wrapping import copied, unwrapped

MAPS = ("forward_intermediates", "get_intermediate_layers")


def merge_tokens(model: nn.Module, r: int) -> nn.Module:
    """Return a copy of a ViT that merges r pairs of similar patches in each block.

    Similarity is that of the attention's keys, averaged over the heads. In later attention a merged
    token counts as the patches that it stands for. After the last block each patch gets the token
    that stands for it: features keep their shape, and every kind of pooling, averages too, weighs a
    merged token by its patches. With r = 0 the model computes what it did.

    Args:
        model: VisionTransformer of timm or torchvision.
        r: pairs to merge in each block; all of them, half of the patches, where those are fewer.

    Raises:
        ValueError: ``r`` is negative, or the model is not a VisionTransformer of plain blocks.
    """
    require_whole(r=r)
    if r < 0:
        raise ValueError(f"r {r} is negative: it is the number of merges in each block")
    vit = _known(model)
    if r > 0:
        merging: OrderedDict[str, nn.Module] = OrderedDict(
            (name, MergeBlock(block, vit.family, vit.num_prefix_tokens, r, first=i == 0))
            for i, (name, block) in enumerate(vit.blocks.named_children())
        )
        blocks = MergeBlocks(merging)
        blocks.training = vit.blocks.training
        setattr(vit.home, vit.name, blocks)
        if hasattr(vit.model, "grad_checkpointing"):
            vit.model.grad_checkpointing = False  # it would run the blocks without their sizes
    return vit.model


def prune_tokens(model: nn.Module, keep_ratio: float) -> nn.Module:
    """Return a copy of a ViT that drops the patches to which the class token attends least.

    Three blocks do so, those that follow a quarter, half and three quarters of the depth, which
    are EViT's: the 4th, 7th and 10th of 12. Each keeps ``keep_ratio`` of the patches that reach it,
    in their order. Average pooling is over those that are left. With ``keep_ratio`` 1 the model
    computes what it did.

    Args:
        model: VisionTransformer of timm or torchvision, with a class token.
        keep_ratio: share of the patches that stay, in (0, 1]; at least one does.

    Raises:
        ValueError: ``keep_ratio`` is outside (0, 1], the model has no class token or no block, or
            is not a VisionTransformer of plain blocks.
    """
    require_number(keep_ratio=keep_ratio)
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio {keep_ratio} is outside (0, 1]: it is the share that stays")
    vit = _known(model)
    if not vit.class_token:
        raise ValueError("the model has no class token, whose attention says which patches stay")
    if keep_ratio < 1:
        names = [name for name, _ in vit.blocks.named_children()]
        if not names:
            raise ValueError("the model has no block, and patches are dropped within blocks")
        # a set, since quarters of a net of fewer than four blocks coincide
        for i in {len(names) * quarter // 4 for quarter in (1, 2, 3)}:
            block = vit.blocks.get_submodule(names[i])
            pruning = PruneBlock(block, vit.family, vit.num_prefix_tokens, keep_ratio)
            setattr(vit.blocks, names[i], pruning)
        for name in MAPS:
            if hasattr(vit.model, name):
                setattr(vit.model, name, refuse_maps)
    return vit.model


@dataclass
class _Vit:
    """A copy of a ViT, and where its blocks are: the attribute `name` of `home`."""

    model: Any
    home: nn.Module
    name: str
    family: Family
    num_prefix_tokens: int
    class_token: bool

    @property
    def blocks(self) -> nn.Module:
        found: nn.Module = getattr(self.home, self.name)
        return found


def _known(model: nn.Module) -> _Vit:
    """Return a copy of a ViT whose blocks compute what a :class:`Family` does.

    Raises:
        ValueError: it is something else.
    """
    model = unwrapped(model)
    # a model of a library that is not imported cannot be given
    if "torchvision" in sys.modules and isinstance(model, torchvision().models.VisionTransformer):
        _require_torchvisions(model)
        seen: Any = copied(model)
        return _Vit(seen, seen.encoder, "layers", TORCHVISION, 1, True)
    _require_timms(model)
    vit: Any = copied(model)
    return _Vit(vit, vit, "blocks", TIMM, vit.num_prefix_tokens, vit.cls_token is not None)


def _require_timms(model: nn.Module) -> None:
    refused = f"{type(model).__name__} is not a VisionTransformer of timm or torchvision"
    if "timm" not in sys.modules:
        raise ValueError(refused)
    from timm.models.vision_transformer import Attention, Block, VisionTransformer

    blocks: Any = getattr(model, "blocks", ())
    for block in blocks:
        if type(block).forward is not Block.forward:
            raise ValueError(f"blocks of class {type(block).__name__}: only timm's Block is known")
        if type(block.attn).forward is not Attention.forward:
            kind = type(block.attn).__name__
            raise ValueError(f"Block with a {kind}: only timm's Attention is known")
    if not isinstance(model, VisionTransformer):
        raise ValueError(refused)


def _require_torchvisions(model: Any) -> None:
    from torchvision.models.vision_transformer import EncoderBlock

    for block in model.encoder.layers:
        if type(block).forward is not EncoderBlock.forward:
            kind = type(block).__name__
            raise ValueError(f"blocks of class {kind}: only torchvision's EncoderBlock is known")
        attn = block.self_attention
        plain = type(attn).forward is nn.MultiheadAttention.forward and attn.batch_first
        if not plain or attn.bias_k is not None or attn.add_zero_attn:
            raise ValueError(
                f"EncoderBlock with a {type(attn).__name__} of other options than torchvision's"
            )
