"""SAM, lambda_max, pruning, quantization, token merging and SNT for a network of your own.

::

    import snt_core as snt

    print(snt.lambda_max(my_model, (images, labels)))
    small = snt.quantize_weights(snt.prune_magnitude(my_model, 0.5), 4)
    print(snt.coverage(small))

Each name is imported with torch when it is first used, so that what draws figures of records needs
no torch. The other packages are the book's: records, chapters, verdicts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from snt_core.methods.analysis.channels import ChannelRanges as ChannelRanges
    from snt_core.methods.analysis.channels import channel_ranges as channel_ranges
    from snt_core.methods.analysis.channels import widest_to_median as widest_to_median
    from snt_core.methods.analysis.entropy import CodeEntropy as CodeEntropy
    from snt_core.methods.analysis.entropy import activation_entropy as activation_entropy
    from snt_core.methods.analysis.entropy import code_entropy as code_entropy
    from snt_core.methods.analysis.entropy import weight_entropy as weight_entropy
    from snt_core.methods.analysis.weights import block_spectra as block_spectra
    from snt_core.methods.analysis.weights import effective_rank as effective_rank
    from snt_core.methods.analysis.weights import explained_variance as explained_variance
    from snt_core.methods.analysis.weights import share_at as share_at
    from snt_core.methods.compress.activations import calibrate as calibrate
    from snt_core.methods.compress.activations import fake_quantize_static as fake_quantize_static
    from snt_core.methods.compress.activations import quantize_static as quantize_static
    from snt_core.methods.compress.pact import prepare_qat as prepare_qat
    from snt_core.methods.compress.prune import magnitude_masks as magnitude_masks
    from snt_core.methods.compress.prune import prune_iterative as prune_iterative
    from snt_core.methods.compress.prune import prune_magnitude as prune_magnitude
    from snt_core.methods.compress.prune import prune_sweep as prune_sweep
    from snt_core.methods.compress.prune import sparsity as sparsity
    from snt_core.methods.compress.pruner import MagnitudePruner as MagnitudePruner
    from snt_core.methods.compress.quantize import codes as codes
    from snt_core.methods.compress.quantize import fake_quantize_weights as fake_quantize_weights
    from snt_core.methods.compress.quantize import freeze as freeze
    from snt_core.methods.compress.quantize import quantize_weights as quantize_weights
    from snt_core.methods.compress.speed import solve_setting as solve_setting
    from snt_core.methods.compress.speed import speedup as speedup
    from snt_core.methods.compress.token_vit import merge_tokens as merge_tokens
    from snt_core.methods.compress.token_vit import prune_tokens as prune_tokens
    from snt_core.methods.curvature.lambda_max import LambdaMax as LambdaMax
    from snt_core.methods.curvature.lambda_max import hvp as hvp
    from snt_core.methods.curvature.lambda_max import lambda_max as lambda_max
    from snt_core.methods.curvature.rise import Rise as Rise
    from snt_core.methods.curvature.rise import loss_rises as loss_rises
    from snt_core.methods.curvature.scale_free import adaptive_sharpness as adaptive_sharpness
    from snt_core.methods.curvature.scale_free import filter_scale as filter_scale
    from snt_core.methods.curvature.smoothing import smooth as smooth
    from snt_core.methods.curvature.spectrum import SpectralDensity as SpectralDensity
    from snt_core.methods.curvature.spectrum import Trace as Trace
    from snt_core.methods.curvature.spectrum import hessian_trace as hessian_trace
    from snt_core.methods.curvature.spectrum import spectral_density as spectral_density
    from snt_core.methods.curvature.surface import LossSurface as LossSurface
    from snt_core.methods.curvature.surface import loss_surface as loss_surface
    from snt_core.methods.export.latency import Latency as Latency
    from snt_core.methods.export.latency import latency as latency
    from snt_core.methods.export.onnx import export_onnx as export_onnx
    from snt_core.methods.export.packed import load_packed as load_packed
    from snt_core.methods.export.packed import packed_bytes as packed_bytes
    from snt_core.methods.export.packed import save_packed as save_packed
    from snt_core.methods.models.coverage import Coverage as Coverage
    from snt_core.methods.models.coverage import coverage as coverage
    from snt_core.methods.models.wrapping import unwrapped as unwrapped
    from snt_core.methods.optim.sam import SAM as SAM
    from snt_core.methods.snt.to_snt import to_snt as to_snt
    from snt_core.methods.snt.transform import SNTActivation as SNTActivation
    from snt_core.methods.snt.transform import snt_activation as snt_activation
    from snt_core.methods.tasks.observe import observe as observe
    from snt_core.methods.tasks.task import Task as Task

# the module of each public name; what type checkers read stands above
_HOMES = {
    "Task": "methods.tasks.task",
    "SNTActivation": "methods.snt.transform",
    "snt_activation": "methods.snt.transform",
    "to_snt": "methods.snt.to_snt",
    "SAM": "methods.optim.sam",
    "LambdaMax": "methods.curvature.lambda_max",
    "hvp": "methods.curvature.lambda_max",
    "lambda_max": "methods.curvature.lambda_max",
    "SpectralDensity": "methods.curvature.spectrum",
    "Trace": "methods.curvature.spectrum",
    "hessian_trace": "methods.curvature.spectrum",
    "spectral_density": "methods.curvature.spectrum",
    "smooth": "methods.curvature.smoothing",
    "LossSurface": "methods.curvature.surface",
    "loss_surface": "methods.curvature.surface",
    "Rise": "methods.curvature.rise",
    "loss_rises": "methods.curvature.rise",
    "adaptive_sharpness": "methods.curvature.scale_free",
    "filter_scale": "methods.curvature.scale_free",
    "Coverage": "methods.models.coverage",
    "coverage": "methods.models.coverage",
    "magnitude_masks": "methods.compress.prune",
    "prune_iterative": "methods.compress.prune",
    "prune_magnitude": "methods.compress.prune",
    "prune_sweep": "methods.compress.prune",
    "sparsity": "methods.compress.prune",
    "MagnitudePruner": "methods.compress.pruner",
    "codes": "methods.compress.quantize",
    "fake_quantize_weights": "methods.compress.quantize",
    "freeze": "methods.compress.quantize",
    "quantize_weights": "methods.compress.quantize",
    "calibrate": "methods.compress.activations",
    "fake_quantize_static": "methods.compress.activations",
    "quantize_static": "methods.compress.activations",
    "prepare_qat": "methods.compress.pact",
    "merge_tokens": "methods.compress.token_vit",
    "prune_tokens": "methods.compress.token_vit",
    "solve_setting": "methods.compress.speed",
    "speedup": "methods.compress.speed",
    "load_packed": "methods.export.packed",
    "packed_bytes": "methods.export.packed",
    "save_packed": "methods.export.packed",
    "export_onnx": "methods.export.onnx",
    "Latency": "methods.export.latency",
    "latency": "methods.export.latency",
    "ChannelRanges": "methods.analysis.channels",
    "channel_ranges": "methods.analysis.channels",
    "widest_to_median": "methods.analysis.channels",
    "CodeEntropy": "methods.analysis.entropy",
    "activation_entropy": "methods.analysis.entropy",
    "code_entropy": "methods.analysis.entropy",
    "weight_entropy": "methods.analysis.entropy",
    "block_spectra": "methods.analysis.weights",
    "effective_rank": "methods.analysis.weights",
    "explained_variance": "methods.analysis.weights",
    "share_at": "methods.analysis.weights",
    "observe": "methods.tasks.observe",
    "unwrapped": "methods.models.wrapping",
}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # which would take it for leave to use any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(
                f"module 'snt_core' has no attribute '{name}'; see snt_core.__all__"
            )
        return getattr(importlib.import_module(f"snt_core.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
