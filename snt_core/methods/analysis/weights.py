r"""How many principal components the weights of a layer need (the paper's Fig. 1, sec. 3.1).

Works on any matrix, and on any timm ``VisionTransformer``::

    from snt_core.methods.analysis.weights import block_spectra, share_at
    from snt_core.methods.analysis.weights import effective_rank, explained_variance

    explained_variance(my_model.conv1)  # a layer knows where its outputs lie
    curve = explained_variance(my_model.fc.weight)  # curve[k - 1]: share of the first k
    print(effective_rank(my_model.fc.weight))  # between 1 and min(weight.shape)
    ffn = block_spectra(my_vit)["ffn"].mean(0)  # over all blocks, as in the paper
    print(share_at(ffn, 200 / 768))  # where the paper reads its curve

**The matrix.** A weight of R outputs and C inputs is a table of R samples (the outputs' weight
vectors) with C features. PCA centres each feature, and the shares are those of
``sklearn.decomposition.PCA(...).explained_variance_ratio_``. With R > C there are C components:
hence the second layer of a transformer's MLP, C x 4C, is taken transposed, so that every matrix of
a block has as many components as the width C, the "full channel size" that the paper counts in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.models.compressible import outputs_of, weight_names
from snt_core.methods.models.folding import plain


def explained_variance(weight: Tensor | nn.Module) -> Tensor:
    """Return the share of the variance that the first 1, 2, ... principal components hold.

    Args:
        weight: R C, rows the samples and columns the features; further axes count as features, so
            that a convolution's filters are the samples. Or a layer, whose outputs are the samples
            wherever they lie: on axis 1 in a transposed convolution, whose groups' outputs follow
            each other. A weight that a layer computes (weight normalisation) is taken as it is
            used.

    Returns:
        min(R, C) cumulative shares (float64, on the CPU), rising to 1.

    Raises:
        ValueError: fewer than two axes, not finite, rows that are all equal, or a module that has
            not one weight.
    """
    rows = _matrix(weight)
    if (rows == rows[0]).all():
        raise ValueError(f"the {len(rows)} rows of the weight are equal: no variance to explain")
    variances = torch.linalg.svdvals(rows - rows.mean(0)).square()  # times R - 1, which cancels
    total = variances.cumsum(0)
    return total / total[-1]


def effective_rank(weight: Tensor | nn.Module) -> float:
    r"""Return the effective rank: how many singular values really count.

    That of Roy and Vetterli (EUSIPCO 2007), :math:`\exp(-\sum_i p_i \ln p_i)` with
    :math:`p_i = \sigma_i / \sum_j \sigma_j`, the singular values :math:`\sigma` being those of the
    matrix itself, not centred: 1 for an outer product, n for n equal singular values, unchanged by
    scaling and rotation.

    Raises:
        ValueError: as :func:`explained_variance`, or a weight of zeros.
    """
    values = torch.linalg.svdvals(_matrix(weight))
    if not values.any():
        raise ValueError("the weight is all zeros: it has no effective rank")
    return torch.special.entr(values / values.sum()).sum().exp().item()


def block_spectra(model: nn.Module) -> dict[str, Tensor]:
    """Return :func:`explained_variance` of each block of a timm vision transformer.

    Returns:
        Curves of the shape depth x C (C the width), under the names

        - ``"fc1"``: ``mlp.fc1``, 4C x C; ``"fc2"``: ``mlp.fc2`` transposed, 4C x C;
        - ``"ffn"``: the mean of these two curves;
        - ``"qkv"``: ``attn.qkv`` as one 3C x C matrix; ``"q"``, ``"k"``, ``"v"``: its three parts.

        ``["ffn"].mean(0)`` averages over blocks.

    Raises:
        ValueError: the model has no ``blocks`` with these layers.
    """
    blocks = [_block_curves(i, block) for i, block in enumerate(getattr(model, "blocks", []))]
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no blocks: not a timm VisionTransformer?")
    return {name: torch.stack([curves[name] for curves in blocks]) for name in blocks[0]}


def share_at(curve: Tensor, share: float) -> float:
    """Return the curve of :func:`explained_variance` at a share of its components, in (0, 1].

    ``share * len(curve)`` is rounded to a whole number of components, at least one. The paper reads
    200 of 768, so that ``200 / 768`` is the same point of a net of another width.

    Raises:
        ValueError: ``share`` is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is outside (0, 1]: it is the share of the components")
    return curve[max(1, round(share * len(curve))) - 1].item()


def _block_curves(index: int, block: Any) -> dict[str, Tensor]:
    try:
        fc1, fc2, qkv = block.mlp.fc1.weight, block.mlp.fc2.weight, block.attn.qkv.weight
    except AttributeError as error:
        raise ValueError(f"block {index} lacks mlp.fc1, mlp.fc2 or attn.qkv: {error}") from error
    matrices = {"fc1": fc1, "fc2": fc2.T, "qkv": qkv, **dict(zip("qkv", qkv.chunk(3)))}
    curves = {name: explained_variance(matrix) for name, matrix in matrices.items()}
    return {**curves, "ffn": (curves["fc1"] + curves["fc2"]) / 2}


def _matrix(weight: Tensor | nn.Module) -> Tensor:
    if isinstance(weight, nn.Module):
        names = weight_names(layer := plain(weight))
        if len(names) != 1:
            kind = type(layer).__name__
            raise ValueError(f"{kind} has {len(names)} weights of its own: give one as a tensor")
        weight = outputs_of(layer).rows(getattr(layer, names[0]).detach())
    if weight.is_complex() or weight.is_meta:
        raise ValueError(f"weight of {weight.dtype} on {weight.device}: need real numbers")
    if weight.ndim < 2 or not weight.isfinite().all():
        raise ValueError(f"weight of shape {tuple(weight.shape)}: need two axes, all finite")
    return weight.detach().double().cpu().flatten(1)
