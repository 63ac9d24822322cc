"""How long a model and its quantized form take on this machine, and what that was measured on.

::

    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.export.latency import latency

    small = quantize_static(my_model, images, weight_bits=8, act_bits=8, per_channel=True)
    print(latency(my_model, small, images[:1]))  # engine, threads, medians; measured or simulated

A model of this package computes with floats that stand for integers. Its own time says nothing of
integers, and is called simulated here. Measured is what an engine does that multiplies integers:

- ``"onnxruntime"``: both models as ONNX (:mod:`snt_core.methods.export.onnx`). It merges a layer
  with the quantizers around it where it can; the others stay float, and the result counts both.
- ``"torch"``: torch's kernels of oneDNN (:mod:`snt_core.methods.export.integer`), not compiled.
- ``"simulated"``: the model as it is, its weights frozen.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_whole
from snt_core.common.timing import seconds_of
from snt_core.methods.compress.quantize import freeze
from snt_core.methods.export.extra import required
from snt_core.methods.export.integer import with_integer_kernels
from snt_core.methods.export.onnx import onnx_model
from snt_core.methods.export.packed import packed_bytes
from snt_core.methods.models.wrapping import unwrapped

Engine = Literal["onnxruntime", "torch", "simulated"]
# onnxruntime's products: of integers, and of floats
INTEGER = {
    *("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"),
    *("QGemm", "QAttention", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
}
FLOAT = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "LSTM"}
FLOAT |= {"GRU", "RNN", "Attention", "MultiHeadAttention"}
PRODUCTS = (*(f"Conv{n}d" for n in "123"), *(f"ConvTranspose{n}d" for n in "123"), "Linear")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Forward times of a model and its quantized form, and where they come from.

    Attributes:
        engine: what ran them, with its version.
        kind: "measured" if the quantized model multiplied integers, else "simulated".
        threads: that the engine was given.
        batch: samples in a pass.
        repeats: pairs that were timed, in turns.
        float_ms: median of the float model, in milliseconds.
        quantized_ms: median of the quantized one.
        speedup: median of float over quantized time of the pairs; above 1 is a gain.
        integer_products: layers of the quantized model that multiplied integers.
        products: all its layers that multiply; in onnxruntime those within attention, too.
        float_bytes: of the float model's file, ONNX or packed.
        quantized_bytes: of the quantized model's.
    """

    engine: str
    kind: Literal["measured", "simulated"]
    threads: int
    batch: int
    repeats: int
    float_ms: float
    quantized_ms: float
    speedup: float
    integer_products: int
    products: int
    float_bytes: int
    quantized_bytes: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        return (
            f"{self.engine}, {threads}, batch {self.batch}: float {self.float_ms:.3g} ms, "
            f"quantized {self.quantized_ms:.3g} ms, {self.speedup:.2g} times as fast; {self.kind}, "
            f"{self.integer_products} of {self.products} products in integers; "
            f"{self.float_bytes:,} bytes of float, {self.quantized_bytes:,} quantized"
        )


@dataclass(frozen=True)
class _Ready:
    run: Callable[[], object]
    bytes: int
    integer: int
    products: int


def latency(
    model: nn.Module,
    quantized: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    *,
    engine: Engine = "onnxruntime",
    threads: int = 1,
    repeats: int = 21,
) -> Latency:
    """Return how long a float model and its quantized form take for a batch on this machine's CPU.

    The two run in turns, so that both feel what else the machine does.

    Args:
        model: in float32; left as it was, as is the other.
        quantized: the same, quantized.
        inputs: one batch on the CPU, as the models take it; several arguments as a tuple.
        engine: see above.
        threads: that one pass may use.
        repeats: pairs that are timed, after three that are not.

    Raises:
        ImportError: the engine is not installed; how to get it is told.
        ValueError: an argument is out of range, or the engine cannot run one of the models.
    """
    if engine not in ("onnxruntime", "torch", "simulated"):
        raise ValueError(f"engine is {engine!r}; it must be 'onnxruntime', 'torch' or 'simulated'")
    require_whole(threads=threads, repeats=repeats)
    if threads < 1 or repeats < 1:
        raise ValueError(f"threads {threads} and repeats {repeats} must be at least 1")
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    if any(a.device.type != "cpu" for a in args) or not len(args[0]):
        raise ValueError("inputs must be a batch of at least 1 on the CPU: use inputs.cpu()")
    make = _in_onnxruntime if engine == "onnxruntime" else _in_torch
    slow = make(model, args, threads, False)
    quick = make(quantized, args, threads, engine == "torch")
    with _threads(threads), torch.inference_mode():
        pairs = [(seconds_of(slow.run), seconds_of(quick.run)) for _ in range(repeats + 3)][3:]
    version = torch.__version__
    if engine == "onnxruntime":
        version = required("onnxruntime")[0].__version__
    return Latency(
        engine=f"{'torch' if engine == 'simulated' else engine} {version}",
        kind="measured" if quick.integer else "simulated",
        threads=threads,
        batch=len(args[0]),
        repeats=repeats,
        float_ms=1e3 * statistics.median(a for a, _ in pairs),
        quantized_ms=1e3 * statistics.median(b for _, b in pairs),
        speedup=statistics.median(a / b for a, b in pairs),
        integer_products=quick.integer,
        products=quick.products,
        float_bytes=slow.bytes,
        quantized_bytes=quick.bytes,
    )


def _in_onnxruntime(
    model: nn.Module, args: tuple[Tensor, ...], threads: int, integers: bool
) -> _Ready:
    onnx, _, runtime = required("onnx", "onnxscript", "onnxruntime")
    content = onnx_model(model, args, dynamic_batch=False).SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns that the file below fits this machine alone
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        try:
            providers = ["CPUExecutionProvider"]
            session: Any = runtime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # its own kinds, without a common one
            said = str(error).splitlines()[0][:300]
            raise ValueError(f"onnxruntime cannot run the model: {said}") from error
        graph = onnx.load(options.optimized_model_filepath).graph
    kinds = Counter(node.op_type for node in graph.node)
    integer = sum(kinds[kind] for kind in INTEGER)
    given = {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    return _Ready(
        lambda: session.run(None, given),
        len(content),
        integer,
        integer + sum(kinds[kind] for kind in FLOAT),
    )


def _in_torch(model: nn.Module, args: tuple[Tensor, ...], threads: int, integers: bool) -> _Ready:
    plain, found = freeze(unwrapped(model)).eval(), 0
    products = sum(
        type(m).__name__.removeprefix("Parametrized") in PRODUCTS for m in plain.modules()
    )
    size = len(packed_bytes(plain))
    if integers:
        plain, found = with_integer_kernels(plain)
    return _Ready(lambda: plain(*args), size, found, products)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
