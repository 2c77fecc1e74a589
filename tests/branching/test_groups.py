"""Copies that groups of tasks share: which there are, what runs, and what the state says of them."""

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from separate_copies import differences, differences_after_training, still
from torch import Tensor, nn

from recon.branching import BranchedModule, branch, growth

TASKS = ("a", "b", "c")
AC_B = [["a", "c"], ["b"]]
A_BC = [["a"], ["b", "c"]]


class Chain(nn.Module):
    """Four layers, norms among them, with a write in place and a direct read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x))
        skip = y.view(-1, 2, 2)
        y += self.second(torch.tanh(y))
        return self.third(torch.tanh(y)) * self.scale + skip.flatten(1)


class Untraceable(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > -1e9 else x


def counted(net: BranchedModule, x: Tensor) -> dict[str, int]:
    """How often linear layers and norms run in a call, by their names in the branched network."""
    calls: dict[str, int] = {}

    def count(name: str, module: nn.Module) -> None:
        def hook(*_: Any) -> None:
            calls[name] = calls.get(name, 0) + 1

        module.register_forward_hook(hook)

    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.BatchNorm1d):
            count(name, module)
    net(x)
    return calls


CASES: dict[str, tuple[list[str], dict[str, list[list[str]]]]] = {
    "equal": (["first", "third"], {"first": AC_B, "third": AC_B}),
    "crossed": (["first", "third"], {"first": AC_B, "third": A_BC}),
    "early": (["first", "norm", "third"], {"first": AC_B}),
    "late": (["second", "third"], {"third": A_BC}),
    "norm": (["first", "norm"], {"norm": AC_B}),
    "read": (["second", "Chain"], {"second": A_BC, "Chain": AC_B}),
    "plain": (["second", "third"], {"second": [["a", "b", "c"]]}),
}


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_groups_equal_separate_copies(case: str, training: bool) -> None:
    torch.manual_seed(0)
    layers, groups = CASES[case]
    x = torch.randn(6, 4, dtype=torch.float64)
    found = differences(still(Chain()), layers, [x], training, TASKS, calls=2, groups=groups)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize("case", CASES)
def test_groups_with_statistics_per_task_equal_tied_copies(case: str) -> None:
    torch.manual_seed(0)
    layers, groups = CASES[case]
    batches = list(torch.randn(3, 6, 4, dtype=torch.float64))
    found = differences_after_training(still(Chain()), layers, batches, TASKS, groups)
    assert max(found.values()) < 1e-12, found


@pytest.mark.filterwarnings("ignore:.*cannot be traced")
@pytest.mark.parametrize("case", CASES)
def test_groups_in_a_network_that_cannot_be_traced_have_outputs_and_gradients_of_separate_copies(case: str) -> None:
    torch.manual_seed(0)
    layers, groups = CASES[case]
    layers = ["Untraceable" if name == "Chain" else name for name in layers]
    groups = {"Untraceable" if name == "Chain" else name: own for name, own in groups.items()}
    x = torch.randn(6, 4, dtype=torch.float64)
    found = differences(still(Untraceable()), layers, [x], True, TASKS, groups=groups)
    assert max(found["outputs"], found["gradients"]) < 1e-12, found


def test_tasks_that_have_shared_every_copy_share_the_computation() -> None:
    net = branch(Chain(), ["first", "third"], TASKS, groups={"first": AC_B, "third": A_BC})
    assert counted(net, torch.randn(6, 4)) == {
        "branches.a.first": 1,
        "branches.b.first": 1,
        "shared.norm": 2,
        "shared.second": 2,
        "branches.a.third": 1,
        "branches.b.third": 2,  # b and c come with activations of their own
    }


@pytest.mark.filterwarnings("ignore:.*cannot be traced")
def test_tasks_with_the_same_copies_share_a_run_that_cannot_be_traced() -> None:
    net = branch(Untraceable(), ["first", "third"], TASKS, groups={"first": AC_B, "third": AC_B})
    assert set(counted(net, torch.randn(6, 4)).values()) <= {1, 2}
    outputs = net(torch.randn(6, 4))
    assert outputs["a"] is outputs["c"] and outputs["a"] is not outputs["b"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", CASES)
def test_a_path_of_one_task_and_an_extracted_network_give_its_output(case: str, task: str) -> None:
    layers, groups = CASES[case]
    net = moved(branch(Chain(), layers, TASKS, groups=groups)).eval()
    x = torch.randn(6, 4)
    torch.testing.assert_close(net.run(task, x), net(x)[task])
    torch.testing.assert_close(net.extract(task)(x), net(x)[task])


@torch.no_grad()
def moved(net: BranchedModule) -> BranchedModule:
    for parameter in net.parameters():
        parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    return net


def test_the_state_names_a_copy_by_the_first_task_of_its_group() -> None:
    net = branch(Chain(), ["first", "third"], TASKS, groups={"first": AC_B, "third": A_BC})
    weights = [name for name in net.state_dict() if name.endswith("weight") and name.startswith("branches")]
    assert sorted(weights) == [
        "branches.a.first.weight",
        "branches.a.third.weight",
        "branches.b.first.weight",
        "branches.b.third.weight",
    ]
    assert net.groups == {"first": (("a", "c"), ("b",)), "third": (("a",), ("b", "c"))}
    assert net.partitions.tolist() == [[0, 1, 0], [0, 1, 1]]


def test_one_group_a_task_is_branching_and_one_group_of_all_is_the_plain_network() -> None:
    chain = Chain()
    layers = ["first", "norm"]
    each = branch(chain, layers, TASKS, groups={layer: [["c"], ["a"], ["b"]] for layer in layers})
    assert list(each.state_dict()) == list(branch(chain, layers, TASKS).state_dict())
    each.load_state_dict(branch(chain, layers, TASKS).state_dict())
    plain = branch(chain, layers, TASKS, groups={layer: [["c", "a", "b"]] for layer in layers})
    assert plain.layers == () and list(plain.shared.state_dict()) == list(chain.state_dict())
    x = torch.randn(6, 4)
    outputs = plain.eval()(x)
    assert outputs["a"] is outputs["b"] is outputs["c"]
    torch.testing.assert_close(outputs["a"], chain.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("init", ["reset", Chain])
def test_copies_start_once_for_each_group(init: Any) -> None:
    net = branch(Chain(), ["first"], TASKS, init=init, groups={"first": AC_B})
    a, b = (net.branches[task].get_submodule("first").weight for task in "ab")
    assert not torch.equal(a, b)
    assert torch.equal(net.extract("a").first.weight, net.extract("c").first.weight)


def test_growth_counts_a_shared_copy_once() -> None:
    net = branch(Chain(), ["third"], TASKS, groups={"third": AC_B})
    measured = growth(net, torch.randn(6, 4), repeats=1).parameters
    assert measured.branched - measured.plain == 4 * 4 + 4


def test_branch_parameters_of_a_task_include_those_that_it_shares() -> None:
    net = branch(Chain(), ["first", "third"], TASKS, groups={"first": AC_B})
    a, b, c = (net.branch_parameters(task) for task in TASKS)
    assert [p.shape for p in a] == [p.shape for p in b] == [p.shape for p in c]
    assert {id(p) for p in a} & {id(p) for p in c} == {
        id(p) for p in net.branches["a"].get_submodule("first").parameters()
    }
    assert not {id(p) for p in a} & {id(p) for p in b}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("case", CASES)
def test_copies_of_the_network_keep_the_groups(case: str, duplicate: Any) -> None:
    layers, groups = CASES[case]
    net = moved(branch(Chain(), layers, TASKS, statistics="per_task", groups=groups))
    other = moved(duplicate(net)).double().train()
    x = torch.randn(6, 4, dtype=torch.float64)
    other(x)
    other.load_state_dict(other.state_dict(), assign=True)
    other(x)
    for task in TASKS:
        torch.testing.assert_close(other.eval().extract(task)(x), other(x)[task])


def test_functional_call_leaves_shared_copies_as_they_were() -> None:
    net = branch(Chain(), ["first"], TASKS, groups={"first": AC_B})
    before = dict(net.named_parameters())
    zeros = {name: torch.zeros_like(parameter) for name, parameter in before.items()}
    torch.func.functional_call(net, zeros, (torch.randn(6, 4),))
    assert all(parameter is before[name] for name, parameter in net.named_parameters())


def test_a_module_exchanged_in_a_copy_serves_all_tasks_of_the_group() -> None:
    net = branch(Chain(), ["first"], TASKS, groups={"first": AC_B})
    net.branches["a"].first = nn.Linear(4, 4)
    x = torch.randn(6, 4)
    for task in TASKS:
        torch.testing.assert_close(net.eval().run(task, x), net(x)[task])


def test_a_state_of_other_groups_is_refused() -> None:
    net = branch(Chain(), ["first", "third"], TASKS, groups={"first": AC_B, "third": AC_B})
    other = branch(Chain(), ["first", "third"], TASKS, groups={"first": AC_B, "third": A_BC})
    with pytest.raises(ValueError, match=r"other groups of tasks, in layer 'third' and 0 others; branch with the"):
        net.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match=r"branches\.c\.first\.weight"):
        net.load_state_dict(branch(Chain(), ["first", "third"], TASKS).state_dict())


def test_a_state_is_of_the_groups_in_whatever_order_the_layers_were_given() -> None:
    groups = {"first": AC_B, "third": A_BC}
    net, other = (branch(Chain(), layers, TASKS, groups=groups) for layers in (["first", "third"], ["third", "first"]))
    other.load_state_dict(net.state_dict())
    x = torch.randn(6, 4)
    torch.testing.assert_close(other.eval()(x), net.eval()(x), rtol=0, atol=0)


def test_the_summary_tells_groups_copies_and_runs() -> None:
    net = branch(Chain(), ["first", "second", "third"], TASKS, groups={"first": AC_B, "third": AC_B})
    assert str(net).splitlines() == [
        "BranchedModule(Chain, tasks: a, b, c",
        "  branched: first, second, third",
        "  branches: 3 layers, 7 copies, 140 parameters in all copies",
        "  groups:   a, c | b: first, third",
        "  shared:   2 layers, 12 parameters",
        "  trunk:    0 operations, run once; the other 11, from 'first' on, run once per group that has shared "
        "all copies so far, 29 in all",
        ")",
    ]


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"first": [["a", "c"]]}, r"the groups of layer 'first' miss 'b'; put every task into one group"),
        ({"first": [["a", "c"], ["b", "a"]]}, r"layer 'first' have task 'a' 2 times; put every task"),
        ({"first": [["a", "c"], ["bb"]]}, r"unknown task 'bb' in the groups of layer 'first'; nearest: 'b'"),
        ({"first": [["a", "c", "b"], []]}, r"layer 'first' have an empty group; leave it out"),
        ({"frist": AC_B}, r"unknown layer 'frist' in the layers to branch; nearest: 'first'"),
        ({"second": AC_B}, r"unknown layer 'second' in the layers to branch"),
        ({"first": "abc"}, r"layer 'first' are 'abc'; give a list of lists of tasks"),
        ({"first": ["ac", "b"]}, r"give a list of lists of tasks: \[\['a', 'c'\], \['b'\]\]"),
        ({"first": 3}, r"layer 'first' are 3; give a list of lists of tasks"),
        ({"first": [3]}, r"layer 'first' are \[3\]; give a list of lists of tasks"),
        ([AC_B], r"give a mapping of layers to groups"),
    ],
)
def test_bad_groups_are_refused(groups: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        branch(Chain(), ["first"], TASKS, groups=groups)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_a_module_that_is_a_leaf_of_the_trace_may_hold_layers_with_other_groups() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.out = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attention(x, x, x, need_weights=False)[0])

    torch.manual_seed(0)
    groups: Mapping[str, list[list[str]]] = {"attention": AC_B, "attention.out_proj": A_BC}
    net = branch(Attends(), list(groups), TASKS, groups=groups)
    assert len(list(net.branches.parameters())) == 8
    copied = moved(copy.deepcopy(net)).to(torch.float64)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    for task in TASKS:
        torch.testing.assert_close(copied.run(task, x), copied(x)[task])
    attention = {task: copied.extract(task).attention for task in TASKS}
    assert torch.equal(attention["a"].in_proj_weight, attention["c"].in_proj_weight)
    assert not torch.equal(attention["a"].in_proj_weight, attention["b"].in_proj_weight)
    assert torch.equal(attention["b"].out_proj.weight, attention["c"].out_proj.weight)
    assert not torch.equal(attention["a"].out_proj.weight, attention["c"].out_proj.weight)
