import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import recon.methods as methods
from recon.methods import (
    GramianMethod,
    JacobianMethod,
    LossMethod,
    Method,
    RandomMethod,
    StatefulMethod,
    create_method,
)

RANDOM = ["pcgrad", "graddrop"]


class Uniform(GramianMethod):
    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        return torch.full((len(gramian),), 1 / len(gramian), dtype=torch.float64)


class Learned(LossMethod):
    def __init__(self) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(2))

    def loss_weights(self, losses: Tensor) -> Tensor:
        return self.log_weights.exp()


def draws(method: Method, times: int = 3) -> list[list[float]]:
    jacobian = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return [method.combine(jacobian).tolist() for _ in range(times)]


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_is_reproduced_by_seed_and_reseed(name: str) -> None:
    first, method = draws(create_method(name, seed=5)), create_method(name)
    assert first[0] != first[1]
    assert draws(method) != first
    method.reseed(5)
    assert draws(method) == first


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_continues_from_a_checkpoint(name: str) -> None:
    method = create_method(name, seed=5)
    draws(method)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = draws(method)
    file.seek(0)
    resumed = create_method(name)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert draws(resumed) == expected


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda method: pickle.loads(pickle.dumps(method))])
def test_a_copy_draws_on_its_own(name: str, copied: type) -> None:
    method = create_method(name, seed=5)
    twin = copied(method)
    assert draws(twin) == draws(method)


@pytest.mark.parametrize("name", RANDOM)
def test_neither_reads_nor_moves_the_global_generator(name: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draws(create_method(name))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_randomness_on_an_accelerator_continues_from_a_checkpoint() -> None:
    method, jacobian = create_method("graddrop"), torch.randn(3, 100, device="cuda")
    method.cuda().combine(jacobian)
    state = copy.deepcopy(method.state_dict())
    expected = method.combine(jacobian)
    resumed = create_method("graddrop", seed=9)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.combine(jacobian), expected)


@pytest.mark.parametrize("name", ["joint", "mgda", "cagrad"])
def test_methods_without_randomness_can_be_reseeded_too(name: str) -> None:
    method = create_method(name)
    method.reseed(3)
    assert method.state_dict() == {}


@pytest.mark.parametrize(
    "call",
    [
        "Joint(weights=None)",
        "Joint(weights=[1.0, 0.5])",
        "MGDA(normalization='loss+')",
        "PCGrad(seed=3)",
        "CAGrad(c=0.4, rescale=2)",
        "GradDrop(leak=0.1, seed=0)",
    ],
)
def test_repr_reproduces_the_call(call: str) -> None:
    assert repr(eval(call, vars(methods))) == call


def test_a_method_of_one_function_has_defaults_for_the_rest() -> None:
    method = Uniform()
    assert method.scale == "mean"
    assert repr(method) == "Uniform()"
    assert method.combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist() == [1, 2]


def test_what_a_users_method_receives_is_checked_and_in_float64() -> None:
    received = []

    class Spy(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            assert losses is not None
            received.extend([gramian.dtype, losses.dtype])
            return torch.ones(2, dtype=torch.float64)

    Spy().combine(torch.ones(2, 3), torch.ones(2))
    assert received == [torch.float64, torch.float64]
    with pytest.raises(ValueError, match="task index 0"):
        Spy().weights(torch.full((2, 2), float("nan")).triu(1) + torch.tensor([[float("inf"), 0], [0, 1]]))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.ones(3), r"Wrong\(\) returned weights of shape \(3,\) for 2 tasks"),
        (torch.tensor([1.0, float("nan")]), r"Wrong\(\) returned NaN or infinity as weight of task index 1"),
    ],
)
def test_what_a_users_method_returns_is_checked(returned: Tensor, message: str) -> None:
    class Wrong(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return returned

    with pytest.raises(ValueError, match=message):
        Wrong().weights(torch.eye(2))


def test_weights_come_as_float64_tensors() -> None:
    class Single(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.ones(len(gramian))

    class Listed(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return [1.0] * len(gramian)  # type: ignore[return-value]

    assert Single().weights(torch.eye(2)).dtype == torch.float64
    with pytest.raises(TypeError, match=r"Listed\(\) returned weights as list, not as a tensor"):
        Listed().weights(torch.eye(2))


def test_a_users_jacobian_method_is_checked() -> None:
    class Median(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return jacobian.median(dim=0).values

    assert Median().combine(torch.tensor([[1.0], [5.0], [2.0]])).tolist() == [2]
    with pytest.raises(ValueError, match="task index 2"):
        Median().combine(torch.tensor([[1.0], [5.0], [float("nan")]]))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.tensor([1.0, float("nan"), 2.0]), r"Returned\(\) returned NaN or infinity .* first at parameter 1"),
        (torch.ones(2), r"Returned\(\) returned an update of shape \(2,\) for 3 parameters"),
        ([1.0, 2.0, 3.0], r"Returned\(\) returned an update as list"),
    ],
)
def test_what_a_users_jacobian_method_returns_is_checked(returned: Tensor, message: str) -> None:
    class Returned(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return returned

    with pytest.raises((ValueError, TypeError), match=message):
        Returned().combine(torch.ones(2, 3))


def test_an_update_too_long_to_sum_is_finite_all_the_same() -> None:
    class Long(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.full_like(jacobian[0], 3e38)

    assert Long().combine(torch.ones(2, 3)).isfinite().all()


@pytest.mark.parametrize("kind", [Method, GramianMethod, JacobianMethod, LossMethod])
def test_a_method_must_say_how_it_combines(kind: type[Method]) -> None:
    class Nothing(kind):  # type: ignore[valid-type, misc]
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_loss_weights_are_constants_in_the_losses_and_reach_learned_parameters() -> None:
    method, losses = Learned(), torch.tensor([2.0, 3.0], requires_grad=True)
    method.objective(losses).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [1, 1]
    assert method.log_weights.grad is not None
    assert method.log_weights.grad.tolist() == [2, 3]


def test_loss_methods_combine_by_their_loss_weights() -> None:
    class Harmonic(LossMethod):
        def loss_weights(self, losses: Tensor) -> Tensor:
            return 1 / losses

    jacobian = torch.tensor([[2.0, 4.0], [4.0, 8.0]])
    assert Harmonic().combine(jacobian, torch.tensor([2.0, 4.0])).tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"Harmonic\(\) weights tasks by their losses; pass losses"):
        Harmonic().combine(jacobian)
    with pytest.raises(ValueError, match="returned NaN or infinity as weight of task index 1"):
        Harmonic().objective(torch.tensor([1.0, 0.0]))


def test_a_random_method_is_written_like_any_other() -> None:
    class Coin(RandomMethod, GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.rand(len(gramian), generator=self.generator, dtype=torch.float64)

    assert torch.equal(Coin(seed=1).weights(torch.eye(2)), Coin(seed=1).weights(torch.eye(2)))
    assert repr(Coin(seed=1)) == "Coin(seed=1)"


def test_step_evaluates_once_and_returns_what_the_engine_says() -> None:
    parameter = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    parameter.grad = torch.tensor(100.0)  # of the last step

    class Engine:
        def backward(self, losses: dict[str, Tensor]) -> str:
            sum(losses.values(), torch.zeros(())).backward()
            return "info"

    assert Uniform().step(Engine(), lambda: {"a": 2 * parameter, "b": parameter}, optimizer) == "info"
    assert parameter.item() == -0.5


class Momentum(StatefulMethod, JacobianMethod):
    """A running mean of the task gradients, summed with learned factors."""

    gradients: Tensor
    factors: nn.Parameter

    def make_state(self, tasks: int) -> None:
        self.register_buffer("gradients", torch.zeros(tasks, 0))
        self.factors = nn.Parameter(torch.ones(tasks))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        gradients = self.tracked("gradients", jacobian)
        gradients.lerp_(jacobian, 0.5)
        return self.factors.detach().to(jacobian) @ gradients


def test_state_is_made_once_for_the_tasks_at_hand() -> None:
    method = Momentum()
    assert method.state_dict() == {}
    method.bind(2)
    factors = method.factors
    method.bind(2)
    assert method.factors is factors
    with pytest.raises(ValueError, match=r"Momentum\(\) has the state of 2 tasks, got 3; create a new method"):
        method.bind(3)


def test_a_method_that_is_used_without_an_engine_binds_itself() -> None:
    method = Momentum()
    assert method.combine(torch.ones(2, 3)).tolist() == [1, 1, 1]
    assert method.combine(torch.ones(2, 3)).tolist() == [1.5, 1.5, 1.5]
    with pytest.raises(ValueError, match="state of 2 tasks, got 3"):
        method.combine(torch.ones(3, 3))


@pytest.mark.parametrize("bound", [True, False])
def test_state_of_any_shape_loads_into_a_method_that_is_new(bound: bool) -> None:
    method = Momentum()
    method.combine(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    resumed = nn.ModuleDict({"method": Momentum()})
    if bound:
        resumed["method"].bind(2)
    resumed.load_state_dict({f"method.{name}": value for name, value in method.state_dict().items()})
    assert resumed["method"].tasks == 2
    for name, value in method.state_dict().items():
        assert torch.equal(resumed["method"].state_dict()[name], value)
        assert resumed["method"].state_dict()[name].data_ptr() != value.data_ptr()


def test_state_of_other_tasks_or_parameters_does_not_load() -> None:
    method, used = Momentum(), Momentum()
    method.combine(torch.ones(2, 3))
    used.combine(torch.ones(2, 4))
    with pytest.raises(RuntimeError, match="size mismatch for gradients"):
        used.load_state_dict(method.state_dict())
    other = Momentum()
    other.bind(3)
    with pytest.raises(RuntimeError, match="size mismatch for factors"):
        other.load_state_dict(method.state_dict())


def test_tracked_gradients_follow_the_jacobians_precision() -> None:
    method = Momentum()
    method.combine(torch.ones(2, 3))
    assert method.combine(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert method.gradients.dtype == torch.float64


def test_methods_without_state_serve_any_number_of_tasks_and_any_epoch() -> None:
    method = Uniform()
    method.bind(2)
    method.bind(3)
    method.end_epoch()
    assert method.combine(torch.ones(4, 1)).tolist() == [1]


def test_learned_weights_do_not_put_a_graph_on_the_update() -> None:
    assert not Learned().combine(torch.ones(2, 3), torch.ones(2)).requires_grad


def test_state_keeps_its_precision_when_the_network_is_cast() -> None:
    for name in ("famo", "gradnorm", "dwa", "log_stch", "sdmgrad", "gradvac", "excess_mtl"):
        method = create_method(name)
        method.bind(2)
        before = {key: value.dtype for key, value in method.named_buffers()}
        nn.ModuleDict({"method": method}).to(torch.bfloat16)
        assert {key: value.dtype for key, value in method.named_buffers()} == before, name
    method = create_method("famo")
    method.bind(2)
    method.to(torch.bfloat16)
    for _ in range(300):
        method.update(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.5]))
    assert method.loss_weights(torch.ones(2))[0] > 0.9


@pytest.mark.parametrize("name", ["moco", "db_mtl", "excess_mtl"])
def test_a_method_that_has_made_steps_can_be_set_back_to_its_beginning(name: str) -> None:
    method = create_method(name)
    method.bind(2)
    beginning = copy.deepcopy(method.state_dict())
    first = method.combine(torch.eye(2, 5), torch.ones(2))
    method.combine(torch.ones(2, 5), torch.ones(2))
    method.load_state_dict(beginning)
    assert torch.equal(method.combine(torch.eye(2, 5), torch.ones(2)), first)


def test_state_follows_the_module_where_only_the_place_changes() -> None:
    method = create_method("famo")
    method.bind(2)
    empty = copy.deepcopy(method).to("meta").to_empty(device="cpu")
    assert {name: b.dtype for name, b in empty.named_buffers()} == {name: b.dtype for name, b in method.named_buffers()}


@pytest.mark.parametrize("name", ["psmgd", "cr_mogm", "gradvac", "sdmgrad", "modo", "gradnorm"])
def test_state_of_what_is_solved_on_the_host_stays_there(name: str) -> None:
    method = create_method(name)
    method.bind(2)
    nn.ModuleDict({"method": method}).to("meta")  # stands for any other device
    assert {buffer.device.type for buffer in method.buffers()} == {"cpu"}
    assert method.combine(torch.eye(2), torch.ones(2)).isfinite().all()
