"""Wrapped models give what the plain model gives, and are left as they were."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from snt_core.methods.analysis.channels import channel_ranges
from snt_core.methods.analysis.entropy import activation_entropy, weight_entropy
from snt_core.methods.compress.activations import calibrate
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.curvature.lambda_max import hvp, lambda_max
from snt_core.methods.curvature.rise import loss_rises
from snt_core.methods.curvature.scale_free import adaptive_sharpness
from snt_core.methods.curvature.spectrum import hessian_trace, spectral_density
from snt_core.methods.curvature.surface import loss_surface
from snt_core.methods.models.wrapping import plain_copy, unwrapped

N = 9


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


WRAPPINGS = {
    "compile": compiled,
    "ddp": ddp,
    "dp": nn.DataParallel,
    "ddp of compile": lambda model: ddp(compiled(model)),
    "compile of ddp": lambda model: compiled(ddp(model)),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 5, generator=generator), torch.arange(N) % 3


MEASURES = {
    "lambda_max": lambda m: lambda_max(m, data()),
    "hvp": lambda m: hvp(m, data(), torch.ones(39)).tolist(),
    "trace": lambda m: hessian_trace(m, data(), probes=2),
    "density": lambda m: spectral_density(m, data(), probes=2, steps=2),
    "surface": lambda m: loss_surface(m, data(), points=3),
    "sharpness": lambda m: adaptive_sharpness(m, data()),
    "rises": lambda m: loss_rises(m, {"same": m}, data()),
    "channels": lambda m: channel_ranges(m, ["0"], data()),
    "entropy": lambda m: (weight_entropy(m), activation_entropy(m, data())),
    "calibrate": lambda m: state(calibrate(m, data(), 4)),
    "qat": lambda m: state(prepare_qat(m, data(), weight_bits=4, act_bits=4)),
}


def state(model: nn.Module) -> dict[str, list]:
    return {key: value.tolist() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_plain_module_is_found(wrapping: str, group) -> None:
    model = net()
    wrapped = WRAPPINGS[wrapping](model)
    assert unwrapped(wrapped) is model
    assert unwrapped(model) is model
    assert [k for k, _ in plain_copy(wrapped).named_parameters()] == list(dict(model.state_dict()))


@pytest.mark.parametrize("wrapping", ["compile", "ddp", "dp"])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_that_of_the_plain_model(measure: str, wrapping: str, group) -> None:
    wrapped, expected = WRAPPINGS[wrapping](net()), MEASURES[measure](net())
    before = state(wrapped)
    assert MEASURES[measure](wrapped) == expected
    assert state(wrapped) == before


def test_wrapped_parts_of_a_model_are_plain_in_the_copy() -> None:
    model = net()
    model[0] = nn.DataParallel(compiled(model[0]))
    assert lambda_max(model, data()) == lambda_max(net(), data())
    assert isinstance(model[0], nn.DataParallel)
    name = "0.module._orig_mod"
    assert channel_ranges(model, [name], data())[name] == channel_ranges(net(), ["0"], data())["0"]


def test_a_model_compiled_in_place_is_measured() -> None:
    model = net()
    model.compile(backend="eager")
    assert lambda_max(model, data()) == lambda_max(net(), data())


def test_what_cannot_be_copied_is_named() -> None:
    with pytest.raises(ValueError, match="a function is no model"):
        unwrapped(net)
    with pytest.raises(ValueError, match=r"'0.weight' has no shape yet"):
        lambda_max(nn.Sequential(nn.LazyLinear(3)), data())
    for measure in (lambda_max, hessian_trace, loss_surface):
        with pytest.raises(ValueError, match="'weight' is on the meta device"):
            measure(nn.Linear(5, 3, device="meta"), data())
    with pytest.raises(ValueError, match="'weight' is on the meta device"):
        calibrate(nn.Linear(5, 3, device="meta"), data(), 4)
    with pytest.raises(ValueError, match="parameter 'weight' is complex"):
        lambda_max(nn.Linear(5, 3, dtype=torch.complex64), data())
