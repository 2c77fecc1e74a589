import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recon.conflict import ConflictAnalyzer
from recon.conflict.severity import BINS
from recon.gradients.layers import shared_layers

TASKS = ["digit", "fashion", "depth"]
GRID = [i / 100 for i in range(-99, 1)]


def network(layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(2, 3) for _ in range(layers)))


def gramians_with(cosines: Tensor) -> Tensor:
    """Layer Gramians (L, K, K) of unit gradients with just these cosines (L, P)."""
    tasks = next(k for k in range(2, 10) if k * (k - 1) // 2 == cosines.shape[1])
    gramians = torch.eye(tasks, dtype=torch.float64).repeat(len(cosines), 1, 1)
    for pair, (i, j) in enumerate(combinations(range(tasks), 2)):
        gramians[:, i, j] = gramians[:, j, i] = cosines[:, pair]
    return gramians


def random_gramians(steps: int, layers: int, tasks: int, seed: int = 0) -> Tensor:
    gradients = torch.randn(steps, layers, tasks, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return gradients @ gradients.mT


def observed(gramians: Tensor, tasks: list[str] | None = None) -> ConflictAnalyzer:
    analyzer = ConflictAnalyzer(network(gramians.shape[1]), tasks or TASKS[: gramians.shape[2]])
    for step in gramians:
        analyzer.observes()
        analyzer.observe(step)
    return analyzer


def assert_same_statistics(first: ConflictAnalyzer, second: ConflictAnalyzer) -> None:
    for key, value in first.state_dict().items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(second.state_dict()[key], value, rtol=1e-12, atol=0)
        else:
            assert second.state_dict()[key] == value


near_an_edge = st.builds(
    lambda i, direction: float(torch.nextafter(torch.tensor(i / 100).double(), torch.tensor(direction).double())),
    st.integers(-100, 100),
    st.sampled_from([-2.0, 2.0]),
)
a_cosine = st.one_of(st.floats(-1, 1), st.integers(-100, 100).map(lambda i: i / 100), near_an_edge)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(a_cosine, min_size=6, max_size=6), min_size=1, max_size=8))
def test_scores_at_any_grid_severity_equal_a_recount(steps: list[list[float]]) -> None:
    cosines = torch.tensor(steps, dtype=torch.float64).view(-1, 2, 3)
    cmap = observed(torch.stack([gramians_with(step) for step in cosines])).conflict_map()
    for severity in GRID:
        recount = (cosines < severity).sum(dim=(0, 2)).tolist()
        assert cmap.scores(severity) == dict(zip(cmap.layers, recount, strict=True))
        assert cmap.rates(severity) == {layer: n / (3 * len(steps)) for layer, n in cmap.scores(severity).items()}


def test_whole_number_gradients_with_a_cosine_on_the_grid_do_not_conflict_at_it() -> None:
    gradients = torch.tensor(
        [
            [[3, 4, 0, 0], [-5, 0, 0, 0]],  # cosine -0.6
            [[1, 1, 0, 0], [-2, -2, 0, 0]],  # cosine -1
            [
                [1, 1, 1, 0],
                [-1, -1, -1, 3],
            ],  # cosine -0.5; norms sqrt(3) and sqrt(12), whose rounded product is below 6
        ],
        dtype=torch.float32,
    )
    cmap = observed((gradients @ gradients.mT).unsqueeze(0)).conflict_map()
    assert list(cmap.scores(-0.6).values()) == [0, 1, 0]
    assert list(cmap.scores(-0.5).values()) == [1, 1, 0]
    assert list(cmap.scores(-0.49).values()) == [1, 1, 1]
    assert list(cmap.scores(-0.99).values()) == [0, 1, 0]


def test_means_are_those_of_the_observed_steps() -> None:
    gramians = random_gramians(steps=7, layers=2, tasks=3)
    cmap = observed(gramians).conflict_map()
    norms = gramians.diagonal(dim1=2, dim2=3).sqrt()
    cosines = gramians / (norms.unsqueeze(2) * norms.unsqueeze(3))
    torch.testing.assert_close(cmap.gradient_norms, norms.mean(0))
    for pair, (i, j) in enumerate(combinations(range(3), 2)):
        torch.testing.assert_close(cmap.mean_cosine[:, pair], cosines[:, :, i, j].mean(0))
    torch.testing.assert_close(list(cmap.layer_cosines.values()), cmap.mean_cosine.mean(1).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-10, 1e15])
def test_scale_of_the_gradients_does_not_matter(scale: float, dtype: torch.dtype) -> None:
    gramians = random_gramians(steps=20, layers=2, tasks=3)
    scaled = observed((gramians * scale**2).to(dtype)).conflict_map()
    assert scaled.scores(-0.1) == observed(gramians).conflict_map().scores(-0.1)


def test_parallel_gradients_have_a_mean_cosine_of_one() -> None:
    gramians = torch.full((1, 2, 2, 2), 0.1)
    gramians[0, 0, 0, 1] += 1e-7
    assert observed(gramians).conflict_map().mean_cosine.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("square", [0.0, torch.nan, torch.inf, 1e200])
def test_pairs_with_a_zero_or_non_finite_gradient_are_not_counted(square: float) -> None:
    gramians = random_gramians(steps=3, layers=2, tasks=3)
    gramians[1, 0, 2, :] = gramians[1, 0, :, 2] = torch.nan if math.isnan(square) else 0.0
    gramians[1, 0, 2, 2] = square
    cmap = observed(gramians).conflict_map()
    assert cmap.observations == {"0": 3 + 2 + 2, "1": 9}
    assert cmap.histogram[0].sum(1).tolist() == [3, 2, 2]
    norms = gramians[[0, 2], 0, 2, 2].sqrt()
    torch.testing.assert_close(cmap.gradient_norms[0, 2], norms.mean())


def test_an_infinite_inner_product_is_not_counted() -> None:
    gramians = random_gramians(steps=2, layers=1, tasks=2)
    gramians[0, 0, 0, 1] = gramians[0, 0, 1, 0] = -torch.inf
    cmap = observed(gramians).conflict_map()
    assert cmap.observations == {"0": 1}
    torch.testing.assert_close(cmap.mean_cosine, observed(gramians[1:]).conflict_map().mean_cosine)


def test_a_layer_never_observed_has_no_mean_and_rate_zero() -> None:
    gramians = random_gramians(steps=2, layers=2, tasks=2)
    gramians[:, 1, 0] = gramians[:, 1, :, 0] = 0
    cmap = observed(gramians).conflict_map()
    assert cmap.observations["1"] == 0
    assert cmap.rates(0.0)["1"] == 0.0
    assert cmap.mean_cosine[1].isnan().all()
    assert cmap.gradient_norms[1].isnan().tolist() == [True, False]


def test_every_nth_step_is_observed_the_first_included() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS, every=3)
    assert [analyzer.observes() for _ in range(7)] == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("split", [1, 4, 9])
def test_a_resumed_search_equals_one_at_once(split: int) -> None:
    gramians = random_gramians(steps=10, layers=3, tasks=3)
    before, after = observed(gramians[:split]), ConflictAnalyzer(network(3), TASKS)
    after.load_state_dict(before.state_dict())
    for step in gramians[split:]:
        after.observes()
        after.observe(step)
    assert_same_statistics(observed(gramians), after)


def test_resuming_keeps_the_rhythm_of_every() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS, every=3)
    analyzer.observes()
    resumed = ConflictAnalyzer(network(1), TASKS, every=3)
    resumed.load_state_dict(analyzer.state_dict())
    assert [resumed.observes() for _ in range(3)] == [False, False, True]


def test_state_is_plain_and_survives_a_safe_load(tmp_path: Path) -> None:
    analyzer = observed(random_gramians(steps=2, layers=2, tasks=2))
    torch.save(analyzer.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = ConflictAnalyzer(network(2), TASKS[:2])
    resumed.load_state_dict(state)
    assert_same_statistics(analyzer, resumed)


def test_state_is_a_copy() -> None:
    gramians = random_gramians(steps=2, layers=2, tasks=2)
    analyzer = observed(gramians[:1])
    state, cmap = analyzer.state_dict(), analyzer.conflict_map()
    analyzer.observe(gramians[1])
    assert state["histogram"].sum() == cmap.histogram.sum() == 2


class Named(nn.Module):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def test_state_of_another_network_is_refused_by_name_and_changes_nothing() -> None:
    other = ConflictAnalyzer(Named(conv1=nn.Conv2d(1, 1, 1), conv2=nn.Conv2d(1, 1, 1)), TASKS)
    analyzer = ConflictAnalyzer(Named(conv1=nn.Conv2d(1, 1, 1), conv3=nn.Conv2d(1, 1, 1)), TASKS)
    other.observes()
    with pytest.raises(ValueError, match="unknown layer 'conv2' in Named; nearest: 'conv3'"):
        analyzer.load_state_dict(other.state_dict())
    assert analyzer.state_dict()["steps"] == 0
    smaller = ConflictAnalyzer(Named(conv1=nn.Conv2d(1, 1, 1)), TASKS)
    with pytest.raises(ValueError, match="the state lacks 'conv3'"):
        analyzer.load_state_dict(smaller.state_dict())


def test_state_of_other_tasks_or_rhythm_is_refused() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS[:2])
    with pytest.raises(ValueError, match="unknown task 'depth'"):
        analyzer.load_state_dict(ConflictAnalyzer(network(1), ["digit", "depth"]).state_dict())
    with pytest.raises(ValueError, match="the state has the order fashion, digit"):
        analyzer.load_state_dict(ConflictAnalyzer(network(1), ["fashion", "digit"]).state_dict())
    with pytest.raises(ValueError, match="every=5, not 1"):
        analyzer.load_state_dict(ConflictAnalyzer(network(1), TASKS[:2], every=5).state_dict())


def test_damaged_state_is_refused() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS)
    with pytest.raises(ValueError, match="the state lacks cosine_sums"):
        analyzer.load_state_dict({key: value for key, value in analyzer.state_dict().items() if key != "cosine_sums"})
    with pytest.raises(ValueError, match="histogram of the state has shape"):
        analyzer.load_state_dict(analyzer.state_dict() | {"histogram": torch.zeros(1)})


def test_reset_forgets_everything() -> None:
    analyzer = observed(random_gramians(steps=2, layers=2, tasks=2))
    analyzer.reset()
    assert_same_statistics(ConflictAnalyzer(network(2), TASKS[:2]), analyzer)


SYNCHRONISING = {"_local_scalar_dense", "equal", "index", "index_put_", "masked_select", "nonzero", "unique2"}


class NoSynchronisation(TorchDispatchMode):
    """Fails where a GPU would wait for the host: a value read, a size that depends on values, a
    copy to a device.
    """

    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func.overloadpacket.__name__ not in SYNCHRONISING, func
        assert func.overloadpacket.__name__ != "_to_copy" or kwargs.get("device") is None, func
        self.calls += 1
        return func(*args, **kwargs)


def test_an_observation_never_waits_for_the_host() -> None:
    gramians = random_gramians(steps=3, layers=4, tasks=3).float()
    gramians[1] = 0
    analyzer = ConflictAnalyzer(network(4), TASKS)
    with NoSynchronisation() as mode:
        for step in gramians:
            if analyzer.observes():
                analyzer.observe(step)
    assert mode.calls < 35 * len(gramians)


def test_no_graph_is_kept() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS)
    analyzer.observe(random_gramians(steps=1, layers=1, tasks=3)[0].requires_grad_())
    assert not any(value.requires_grad for value in analyzer.state_dict().values() if isinstance(value, Tensor))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_statistics_follow_the_gramians_to_their_device() -> None:
    gramians = random_gramians(steps=6, layers=2, tasks=3)
    analyzer = ConflictAnalyzer(network(2), TASKS)
    for step, device in zip(gramians, ["cpu", "cuda", "cuda", "cpu", "cuda", "cpu"], strict=True):
        analyzer.observes()
        analyzer.observe(step.to(device))
    assert_same_statistics(observed(gramians), analyzer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_observation_on_a_gpu_never_waits_for_the_host() -> None:
    gramians = random_gramians(steps=3, layers=4, tasks=3).cuda()
    analyzer = ConflictAnalyzer(network(4), TASKS)
    analyzer.observe(gramians[0])  # the statistics move to the GPU, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        analyzer.observe(gramians[1])
        analyzer.observe(gramians[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_grid_edges_are_exact_on_a_gpu() -> None:
    cosines = torch.tensor([[i / 100] for i in range(-100, 101)], dtype=torch.float64)
    on_gpu = observed(gramians_with(cosines).cuda().unsqueeze(0)).conflict_map()
    assert torch.equal(on_gpu.histogram, observed(gramians_with(cosines).unsqueeze(0)).conflict_map().histogram)


def test_layers_and_their_parameters_are_those_of_the_shared_module() -> None:
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    analyzer = ConflictAnalyzer(backbone, TASKS)
    assert analyzer.layers == tuple(shared_layers(backbone)) == ("0", "1", "4")
    assert analyzer.parameters == {"0": 40, "1": 8, "4": 10}


def test_provenance_says_where_the_map_came_from() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS, every=2)
    for step in random_gramians(steps=5, layers=1, tasks=3):
        if analyzer.observes():
            analyzer.observe(step)
    provenance = analyzer.conflict_map(dataset="glyphs", seed=3).provenance
    assert provenance.pop("created").endswith("+00:00")
    assert provenance.pop("recon") and provenance.pop("torch") == torch.__version__
    assert provenance == {
        "network": "Sequential",
        "dataset": "glyphs",
        "seed": 3,
        "steps": 5,
        "observed_steps": 3,
        "every": 2,
    }
    assert analyzer.conflict_map(network="LeNet").provenance["network"] == "LeNet"


def test_provenance_that_cannot_be_kept_is_refused() -> None:
    analyzer = observed(random_gramians(steps=1, layers=1, tasks=2))
    with pytest.raises(ValueError, match="provenance steps=3 is for the analyzer"):
        analyzer.conflict_map(steps=3)
    with pytest.raises(TypeError, match="provenance seed="):
        analyzer.conflict_map(seed=torch.tensor(3))


def test_a_map_without_observations_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no step observed"):
        ConflictAnalyzer(network(1), TASKS).conflict_map()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "two or more tasks"),
        (["digit"], "two or more tasks"),
        ("digit", "give a list of names"),
        (["digit", "digit"], "'digit' is given more than once"),
        (["digit", "a b"], "task name 'a b'"),
        (["digit", "keys"], "task name 'keys'"),
        (["digit", "training"], "task name 'training'"),
        (["digit", 3], "task name 3"),
    ],
)
def test_bad_tasks_are_refused(tasks: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConflictAnalyzer(network(1), tasks)


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_bad_rhythm_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"every={every}"):
        ConflictAnalyzer(network(1), TASKS, every=every)


def test_a_module_with_nothing_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="ReLU has no shared trainable parameters"):
        ConflictAnalyzer(nn.ReLU(), TASKS)


def test_gramians_of_another_shape_are_refused() -> None:
    analyzer = ConflictAnalyzer(network(2), TASKS)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\); give \(L, K, K\) = \(2, 3, 3\)"):
        analyzer.observe(torch.zeros(2, 2, 2))
    assert analyzer.state_dict()["observed_steps"] == 0


# Layers that freeze and thaw
# ------------------------------------------------------------------------------------------


def test_statistics_of_layers_that_thaw_are_those_of_an_analyzer_that_sees_only_these_steps() -> None:
    gramians = random_gramians(steps=6, layers=3, tasks=3)
    net = network(3)
    net[1].requires_grad_(False)
    analyzer = ConflictAnalyzer(net, TASKS)
    for step, frozen in zip(gramians, (True, True, False, False, True, True), strict=True):
        net[1].requires_grad_(not frozen)
        analyzer.follow(net)
        analyzer.observes()
        analyzer.observe(step[[0, 2]] if frozen else step)
    assert analyzer.layers == ("0", "1", "2")
    whole, middle = observed(gramians), observed(gramians[2:4])
    state = analyzer.state_dict()
    for name in ("histogram", "cosine_sums", "norm_sums", "norm_counts"):
        assert torch.equal(state[name][[0, 2]], whole.state_dict()[name][[0, 2]])
        assert torch.equal(state[name][1], middle.state_dict()[name][1])


def test_a_run_that_is_resumed_knows_the_layers_that_had_thawed() -> None:
    net = network(2)
    net[0].requires_grad_(False)
    analyzer, resumed = ConflictAnalyzer(net, TASKS), ConflictAnalyzer(net, TASKS)
    gramians = random_gramians(steps=2, layers=2, tasks=3)
    net[0].requires_grad_(True)
    analyzer.follow(net)
    analyzer.observes()
    analyzer.observe(gramians[0])
    resumed.load_state_dict(analyzer.state_dict())
    assert_same_statistics(resumed, analyzer)
    assert resumed.conflict_map().parameters == {"0": 9, "1": 9}
    resumed.observe(gramians[1][[1]])  # the network of the resumed run is not followed yet
    assert resumed.conflict_map().observations == {"0": 3, "1": 6}


def test_a_network_that_is_frozen_as_a_whole_has_no_layers_yet() -> None:
    net = network(2).requires_grad_(False)
    analyzer = ConflictAnalyzer(net, TASKS)
    assert analyzer.layers == ()
    with pytest.raises(RuntimeError, match="no step observed"):
        analyzer.conflict_map()
    net.requires_grad_(True)
    analyzer.follow(net)
    analyzer.observe(random_gramians(steps=1, layers=2, tasks=3)[0])
    assert analyzer.conflict_map().observations == {"0": 3, "1": 3}


def test_another_network_is_not_followed() -> None:
    with pytest.raises(ValueError, match=r"made for another network: layers that differ include \['2'\]"):
        ConflictAnalyzer(network(2), TASKS).follow(network(3))


def test_a_step_that_is_taken_back_is_not_counted() -> None:
    analyzer = ConflictAnalyzer(network(1), TASKS, every=3)
    assert analyzer.observes()
    analyzer.retract()
    assert [analyzer.observes() for _ in range(4)] == [True, False, False, True]


def test_many_tasks_fit_into_memory_and_time() -> None:
    """128 tasks have 8,128 pairs: 6.5 MB of counts a layer, half of what 64-bit integers take."""
    tasks = [f"task_{i}" for i in range(128)]
    analyzer = ConflictAnalyzer(network(3), tasks)
    gradients = torch.randn(3, 128, 40, generator=torch.Generator().manual_seed(0))
    gramians = gradients @ gradients.mT
    analyzer.observes()
    analyzer.observe(gramians)
    counts = analyzer.state_dict()["histogram"]
    assert counts.numel() * counts.element_size() == 3 * 8128 * BINS * 4
    first, second = torch.triu_indices(128, 128, offset=1)
    unit = torch.nn.functional.normalize(gradients.double(), dim=2)
    cosines = (unit @ unit.mT)[:, first, second]
    assert list(analyzer.conflict_map().scores(-0.1).values()) == (cosines < -0.1).sum(1).tolist()
