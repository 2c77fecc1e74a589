import copy
import pickle
import sys

import pytest
import torch
import torchjd.aggregation as theirs
from torch import Tensor, nn
from torchjd.autogram import Engine as AutogramEngine
from torchjd.autojac import backward, jac_to_grad, mtl_backward
from torchjd.scalarization import STCH as TorchjdSTCH

import recon
from recon.methods import GramianMethod, JacobianMethod, LossMethod, Method, create_method, to_torchjd


@pytest.fixture
def jacobian() -> Tensor:
    return torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Halves(theirs.Weighting):  # type: ignore[type-arg]
    """A user's own weighting, of the Gramian."""

    def forward(self, gramian: Tensor, /) -> Tensor:
        return gramian.new_full(gramian.shape[:1], 0.5)


GRAMIAN = [
    theirs.UPGrad(),
    theirs.UPGradWeighting(),
    theirs.MGDA(),
    theirs.CRMOGMWeighting(theirs.MGDAWeighting()),
    theirs.SDMGradWeighting(),
    theirs.MoDoWeighting(),
    Halves(),
]
JACOBIAN = [theirs.TrimmedMean(1), theirs.ConFIG(), theirs.Mean(), theirs.MeanWeighting(), theirs.NashMTL(3)]


@pytest.mark.parametrize("aggregator", GRAMIAN + JACOBIAN, ids=lambda each: type(each).__name__)
def test_an_object_of_torchjd_gives_its_own_update(aggregator: nn.Module, jacobian: Tensor) -> None:
    expected = copy.deepcopy(aggregator)
    method = create_method("torchjd", aggregator=aggregator)
    assert isinstance(method, GramianMethod if aggregator in GRAMIAN else JacobianMethod)
    for _ in range(2):
        if isinstance(expected, theirs.Aggregator):
            update = expected(jacobian)
        else:
            update = expected(jacobian @ jacobian.T if aggregator in GRAMIAN else jacobian) @ jacobian
        torch.testing.assert_close(method.combine(jacobian), update)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("theirs_of", [theirs.AlignedMTL, theirs.UPGrad, theirs.DualProj])
def test_a_preference_is_taken_in_its_own_precision(
    theirs_of: type[theirs.Aggregator], dtype: torch.dtype, jacobian: Tensor
) -> None:
    preference = torch.tensor([1.0, 2.0, 0.5], dtype=dtype)
    method = create_method("torchjd", aggregator=theirs_of(pref_vector=preference))  # type: ignore[call-arg]
    expected = theirs_of(pref_vector=preference)(jacobian.to(dtype))  # type: ignore[call-arg]
    torch.testing.assert_close(method.combine(jacobian.to(dtype)), expected)
    torch.testing.assert_close(method.combine(jacobian), expected.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["Constant", "NashMTL", "TrimmedMean"])
def test_a_name_that_needs_arguments_says_to_pass_the_object(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"torchjd: aggregator '{name}' cannot .* aggregator=torchjd\.aggregation\.{name}\("
    ):
        create_method("torchjd", aggregator=name)


def test_a_composed_weighting_takes_the_jacobian(jacobian: Tensor) -> None:
    composed = theirs.UPGradWeighting() << (lambda matrix: matrix @ matrix.T)
    method = create_method("torchjd", aggregator=composed)
    torch.testing.assert_close(method.combine(jacobian), theirs.UPGrad()(jacobian))


def test_a_name_stands_for_an_object_made_without_arguments(jacobian: Tensor) -> None:
    method = create_method("torchjd", aggregator="DualProj")
    torch.testing.assert_close(method.combine(jacobian), theirs.DualProj()(jacobian))


@pytest.mark.parametrize("aggregator", [theirs.UPGrad(), theirs.TrimmedMean(1)])
def test_trains_a_network_in_our_engine(aggregator: nn.Module) -> None:
    net, x = nn.Linear(4, 3), torch.randn(5, 4)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(net(x)[:, task].square().mean(), list(net.parameters()))])
        for task in range(3)
    ]
    method = create_method("torchjd", aggregator=aggregator)
    losses = dict(zip("abc", net(x).square().mean(0), strict=True))
    recon.backward(losses, shared=net, method=method)
    update = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    torch.testing.assert_close(update, aggregator(torch.stack(rows)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda method: pickle.loads(pickle.dumps(method))])
def test_copies_behave_alike(copied: type, jacobian: Tensor) -> None:
    method = create_method("torchjd", aggregator=theirs.MGDA(), scale="sum")
    twin = copied(method)
    assert torch.equal(twin.combine(jacobian), method.combine(jacobian))
    assert twin.scale == "sum"


def test_scale_is_what_the_user_says() -> None:
    assert create_method("torchjd").scale == "mean"
    with pytest.raises(ValueError, match="torchjd: scale must be 'sum' or 'mean', got 'max'"):
        create_method("torchjd", scale="max")


def test_what_is_not_torchjds_is_refused() -> None:
    with pytest.raises(TypeError, match=r"torchjd: aggregator must be an Aggregator or Weighting of .* got Linear"):
        create_method("torchjd", aggregator=nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"unknown aggregator 'UpGrad' in torchjd.aggregation; nearest: 'UPGrad'"):
        create_method("torchjd", aggregator="UpGrad")


def test_without_torchjd_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(ImportError, match=r"torchjd is not installed; .*: pip install -e '\.\[torchjd\]'"):
        create_method("torchjd")
    with pytest.raises(ImportError, match=r"torchjd is not installed; .*: pip install -e '\.\[torchjd\]'"):
        to_torchjd(create_method("mgda"))


# Ours in TorchJD's API.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))
        self.x = torch.randn(7, 4)
        self.double()
        self.x = self.x.double()

    def losses(self) -> list[Tensor]:
        features = self.trunk(self.x)
        return [(head(features) - i).square().mean() for i, head in enumerate(self.heads)]

    def updates(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.trunk.parameters() if p.grad is not None])

    def task_gradients(self) -> Tensor:
        parameters = list(self.trunk.parameters())
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in self.losses()]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


METHODS = [("cagrad", {"c": 0.4}), ("mgda", {}), ("config", {}), ("trimmed_mean", {}), ("graddrop", {"seed": 3})]


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_our_method_serves_backward_and_jac_to_grad(name: str, options: dict[str, float]) -> None:
    net = Net()
    expected = create_method(name, **options).combine(net.task_gradients())
    backward(net.losses(), inputs=list(net.trunk.parameters()))
    jac_to_grad(list(net.trunk.parameters()), to_torchjd(create_method(name, **options)))
    torch.testing.assert_close(net.updates(), expected)


def test_our_gramian_method_serves_the_gramian_path_of_jac_to_grad_and_mtl_backward() -> None:
    net = Net()
    jacobian = net.task_gradients()
    features = net.trunk(net.x)
    losses = [(head(features) - i).square().mean() for i, head in enumerate(net.heads)]
    mtl_backward(losses, features=features)
    weights = jac_to_grad(
        list(net.trunk.parameters()), to_torchjd(create_method("cagrad")), optimize_gramian_computation=True
    )
    torch.testing.assert_close(weights, create_method("cagrad").weights(jacobian @ jacobian.T))
    torch.testing.assert_close(net.updates(), create_method("cagrad").combine(jacobian))


def test_our_gramian_method_serves_autogram() -> None:
    net = Net()
    expected = create_method("mgda").combine(net.task_gradients())
    weighting = to_torchjd(create_method("mgda")).gramian_weighting
    engine = AutogramEngine(net.trunk, batch_dim=None)
    losses = torch.stack(net.losses())
    losses.backward(weighting(engine.compute_gramian(losses)))
    torch.testing.assert_close(net.updates(), expected)


def test_our_loss_method_is_a_scalarizer() -> None:
    values = torch.rand(3, dtype=torch.float64)
    gradients = []
    for scalarizer in (to_torchjd(create_method("stch", mu=0.2)), TorchjdSTCH(0.2)):
        leaves = values.clone().requires_grad_()
        scalarizer(leaves).backward()
        assert leaves.grad is not None
        gradients.append(leaves.grad)
    torch.testing.assert_close(gradients[0], 3 * gradients[1])


def test_learned_parameters_of_our_method_are_torchjds_too() -> None:
    method = create_method("uw")
    method.bind(2)
    assert list(to_torchjd(method).parameters()) == list(method.parameters())


def test_there_and_back_is_the_same_method(jacobian: Tensor) -> None:
    for name in ("cagrad", "trimmed_mean"):
        there = to_torchjd(create_method(name))
        torch.testing.assert_close(
            create_method("torchjd", aggregator=there).combine(jacobian), create_method(name).combine(jacobian)
        )


@pytest.mark.parametrize("name", ["fmtl", "famo"])
def test_a_method_with_a_step_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"F.*\(.*\) works by a step of its own, which evaluates the losses again"):
        to_torchjd(create_method(name))


def test_only_the_three_kinds_can_be_handed_on() -> None:
    class Other(Method):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return jacobian[0]

    assert not isinstance(Other(), GramianMethod | JacobianMethod | LossMethod)
    with pytest.raises(TypeError, match=r"Other\(\) is neither a loss, a Gramian nor a Jacobian method"):
        to_torchjd(Other())


def test_a_torchjd_object_of_the_jacobian_gets_it_in_the_dtype_of_its_tensors() -> None:
    aggregator = theirs.ConFIG(pref_vector=torch.tensor([1.0, 2.0]))
    jacobian = torch.eye(2, 5, dtype=torch.float64)
    update = create_method("torchjd", aggregator=aggregator).combine(jacobian)
    torch.testing.assert_close(update, aggregator(jacobian.float()).double())


@pytest.mark.parametrize("name", ["upgrad", "mgda", "constant", "trimmed_mean"])
def test_a_backward_through_our_methods_is_refused(name: str) -> None:
    matrix = torch.randn(3, 5, requires_grad=True)
    adapter = to_torchjd(create_method(name))
    update = adapter(matrix)
    assert not update.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        update.sum().backward()
    if name != "trimmed_mean":
        assert not adapter.weighting(matrix).requires_grad
        assert not adapter.gramian_weighting(matrix @ matrix.T).requires_grad


class Remembers(GramianMethod):
    """The mean, which remembers what it was made of."""

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.gramian = gramian
        return torch.full((len(gramian),), 1 / len(gramian), dtype=torch.float64)


def test_our_gramian_method_gets_the_gramian_in_float64() -> None:
    """The component of 1e-5 in which the gradients differ: its square is beyond float32."""
    jacobian, method = torch.tensor([[1.0, 0.0], [1.0, 1e-5]]), Remembers()
    assert to_torchjd(method)(jacobian).dtype == torch.float32
    assert torch.equal(method.gramian, jacobian.double() @ jacobian.double().T)
    assert method.gramian[1, 1] > 1


def test_forward_hooks_on_either_weighting_see_the_weights() -> None:
    adapter, seen = to_torchjd(create_method("mgda")), []
    for module in (adapter.weighting, adapter.gramian_weighting):
        module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    adapter(torch.eye(2))
    assert [each.tolist() for each in seen] == [pytest.approx([0.5, 0.5])] * 2


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_our_gramian_method_serves_gradients_whose_squares_float32_does_not_hold(size: float) -> None:
    jacobian = size * torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    update = to_torchjd(create_method("mgda"))(jacobian)
    torch.testing.assert_close(update / size, create_method("mgda").combine(jacobian / size), rtol=1e-4, atol=1e-5)


def test_an_object_that_remembers_one_gramian_is_refused_for_groups_of_layers() -> None:
    gramians = torch.eye(2).expand(3, 2, 2)
    assert recon.create_method("torchjd", aggregator="MGDA").weights_of_groups(gramians).shape == (3, 2)
    method = recon.create_method("torchjd", aggregator="GradVac")
    with pytest.raises(ValueError, match=r"torchjd: GradVac remembers one Gramian of all layers"):
        method.weights_of_groups(gramians)


@pytest.mark.parametrize(
    ("aggregator", "refused"),
    [
        (theirs.UPGrad(), False),
        (theirs.UPGrad(pref_vector=torch.tensor([1.0, 2.0, 3.0])), True),
        (theirs.GradVac(), True),
        (theirs.CRMOGMWeighting(theirs.MGDAWeighting()), True),
        (theirs.PCGrad(), False),
        (theirs.TrimmedMean(0), False),
    ],
)
def test_an_object_that_keeps_something_of_tasks_needs_all_of_them(aggregator: nn.Module, refused: bool) -> None:
    method = create_method("torchjd", aggregator=aggregator)
    assert method.needs_all_tasks == refused
    assert create_method("fmtl", method="torchjd", method_options={"aggregator": aggregator}).needs_all_tasks == refused
    shared = nn.Linear(2, 3)
    engine = recon.Engine(shared, ["a", "b", "c"], method)
    losses = dict(zip("ab", shared(torch.ones(2)), strict=False))
    if refused:
        with pytest.raises(ValueError, match=r"there is no loss of \['c'\], and .*TorchJD.* needs all tasks"):
            engine.backward(losses)
    else:
        engine.backward(losses)
        assert shared.weight.grad is not None


@pytest.mark.parametrize(("aggregator", "refused"), [("UPGrad", False), ("PCGrad", True), ("GradVac", True)])
def test_an_object_that_draws_works_in_one_process_alone(
    aggregator: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = create_method("torchjd", aggregator=aggregator)
    assert method.needs_one_process == refused
    assert method.combine(torch.eye(3)).shape == (3,)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    if refused:
        with pytest.raises(ValueError, match=f"torchjd: {aggregator} draws from torch's global generator"):
            method.combine(torch.eye(3))
    else:
        assert method.combine(torch.eye(3)).shape == (3,)
