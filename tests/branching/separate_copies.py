"""What a branched network must compute, by separate copies of its backbone: one per task, each run
on its own.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recon.branching import BranchedModule, branch
from recon.gradients.layers import shared_layers

Pair = tuple[list[Tensor], list[Tensor]]
Groups = Mapping[str, list[list[str]]]
Owners = dict[tuple[str, str], str]
Place = tuple[str, str]  # the task whose copy it is, nobody's for a shared one, and the name of a tensor


def still(network: nn.Module) -> nn.Module:
    """The network in float64, without dropout and stochastic depth, and away from initial values
    that hide errors.

    Zero weights of a last norm layer, or tiny layer scales, would keep a branch's changes from what
    follows.
    """
    network = network.double()
    with torch.no_grad():
        for module in network.modules():
            for name in ("p", "drop_prob", "drop_rate"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
            if isinstance(getattr(module, "running_mean", None), Tensor):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for parameter in network.parameters():
            if parameter.dim() < 2 or not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def some_layers(network: nn.Module, fraction: float) -> list[str]:
    """A random choice of the network's layers, at least one."""
    names = list(shared_layers(network))
    chosen = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    return [names[i] for i in sorted(chosen[: max(1, round(fraction * len(names)))].tolist())]


def differences(
    backbone: nn.Module,
    layers: Sequence[str],
    inputs: Sequence[Tensor],
    training: bool,
    tasks: Sequence[str],
    calls: int = 1,
    groups: Groups | None = None,
) -> dict[str, float]:
    """The largest difference between a branched network and separate copies of its backbone, after
    some calls.

    Every task's copies, or those of each group, are moved away from the backbone's weights at
    random first, so that nothing agrees by chance.

    Returns:
        ``outputs``, ``gradients`` and ``statistics`` -> the largest difference, relative to the
        largest value expected.
    """
    net = branch(backbone, layers, tasks, groups=groups).train(training)
    copies = {task: copy.deepcopy(backbone).train(training) for task in tasks}
    own = _owners(backbone, net)
    _move_apart(net, copies, own)
    for _ in range(calls):
        outputs, expected = net(*(x.clone() for x in inputs)), _run_in_turn(copies, inputs, own)
        weights = {task: [torch.randn_like(leaf) for leaf in _tensors(expected[task])] for task in tasks}
        for results in (outputs, expected):
            pairs = [pair for task in tasks for pair in zip(_tensors(results[task]), weights[task], strict=True)]
            torch.stack([(leaf * weight).sum() for leaf, weight in pairs]).sum().backward()
    return {
        "outputs": _largest((_tensors(outputs[task]), _tensors(expected[task])) for task in tasks),
        "gradients": _largest(_gradients(net, copies, own)),
        "statistics": _largest(_statistics(net, copies, own)),
    }


def differences_after_training(
    backbone: nn.Module,
    layers: Sequence[str],
    batches: Sequence[Tensor],
    tasks: Sequence[str],
    groups: Groups | None = None,
) -> dict[str, float]:
    """The largest difference between a network with running statistics per task and copies tied but
    for theirs.

    Both are trained for a step on each batch but the last, and evaluated on that.

    Returns:
        ``outputs`` of the evaluation, ``parameters`` and ``statistics`` -> the largest difference,
        relative to the largest value expected.
    """
    net = branch(backbone, layers, tasks, statistics="per_task", groups=groups).train()
    copies = {task: copy.deepcopy(backbone).train() for task in tasks}
    own = _owners(backbone, net)
    _move_apart(net, copies, own)
    _tie(copies, own)
    together = nn.ModuleDict(copies)
    *training, evaluation = batches
    generator = torch.Generator().manual_seed(0)
    targets = [[torch.randn(len(x), generator=generator, dtype=x.dtype) for _ in tasks] for x in training]
    for network, run in ((net, net), (together, lambda x: {task: plain(x) for task, plain in copies.items()})):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        for x, target in zip(training, targets, strict=True):
            means = [torch.stack([leaf.flatten(1).mean(1) for leaf in _tensors(y)]).sum(0) for y in run(x).values()]
            optimizer.zero_grad()
            torch.stack(
                [(mean - value).square().sum() for mean, value in zip(means, target, strict=True)]
            ).sum().backward()
            optimizer.step()
    expected = {task: _tensors(plain.eval()(evaluation)) for task, plain in copies.items()}
    outputs = net.eval()(evaluation)
    return {
        "outputs": _largest((_tensors(outputs[task]), expected[task]) for task in tasks),
        "parameters": _largest(_pairs(net, copies, lambda network: network.named_parameters())),
        "statistics": _largest(_pairs(net, copies, lambda network: network.named_buffers())),
    }


def _owners(backbone: nn.Module, net: BranchedModule) -> Owners:
    """The first task of the group, for every task and name of a tensor in a branched layer."""
    return {
        (task, name): group[0]
        for layer, groups in net.groups.items()
        for name in _names_of(backbone, [layer])
        for group in groups
        for task in group
    }


def _tie(copies: dict[str, nn.Module], own: Owners) -> None:
    """Let every copy hold the parameters of the first task that shares them with it."""
    first, *_ = copies
    for task, other in copies.items():
        for name, _ in list(other.named_parameters()):
            home = copies[own.get((task, name), first)].get_parameter(name)
            for module in other.modules():
                held = {key: home for key, p in module._parameters.items() if p is other.get_parameter(name)}
                module._parameters |= held


def _pairs(
    net: BranchedModule, copies: dict[str, nn.Module], named: Callable[[nn.Module], Iterable[tuple[str, Tensor]]]
) -> Iterator[Pair]:
    for task, network in copies.items():
        mine = dict(named(net.extract(task)))
        for name, tensor in named(network):
            yield [mine[name]], [tensor]


def _names_of(backbone: nn.Module, layers: Sequence[str]) -> set[str]:
    """The parameters and buffers of layers, by their names in the backbone; a tied one under its
    first name only.
    """
    modules = dict(backbone.named_modules())
    prefixes = {f"{layer}." if layer in modules else "" for layer in layers}
    named = (*backbone.named_parameters(), *backbone.named_buffers())
    return {name for name, _ in named if name[: name.rfind(".") + 1] in prefixes}


@torch.no_grad()
def _move_apart(net: BranchedModule, copies: dict[str, nn.Module], own: Owners) -> None:
    for task, network in copies.items():
        branched = dict((*net.branches[task].named_parameters(), *net.branches[task].named_buffers()))
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            owner = own.get((task, name))
            if owner == task and tensor.is_floating_point():
                tensor.mul_(1 + 0.2 * torch.rand_like(tensor))
            elif owner not in (None, task):
                tensor.copy_(dict((*copies[owner].named_parameters(), *copies[owner].named_buffers()))[name])
            if owner is not None and name in branched:
                branched[name].copy_(tensor)


def _run_in_turn(copies: dict[str, nn.Module], inputs: Sequence[Tensor], own: Owners) -> dict[str, object]:
    """Run the copies in task order, each going on from the statistics that the task before it left
    in modules that both share.

    A module that gets the input of an earlier task, with which it is shared, runs only once for
    both: no branched layer has parted them before.
    """
    outputs: dict[str, object] = {}
    given: dict[Place, list[list[Tensor]]] = {}
    left: dict[Place, Tensor] = {}
    for task, network in copies.items():
        places = {name: (own.get((task, name), ""), name) for name, _ in network.named_buffers()}
        before = {name: left[place] for name, place in places.items() if place in left}
        for name, statistic in before.items():
            network.get_buffer(name).copy_(statistic)
        outputs[task], seen = _watched(network, inputs)
        for name, place in places.items():
            arguments = seen.get(name.rpartition(".")[0], [])
            earlier = given.setdefault(place, [])
            if not any(all(map(torch.equal, arguments, others)) for others in earlier):
                left[place] = network.get_buffer(name).clone()
            earlier.append(arguments)
    for task, network in copies.items():
        for name, buffer in network.named_buffers():
            buffer.data.copy_(left[own.get((task, name), ""), name])
    return outputs


def _watched(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[object, dict[str, list[Tensor]]]:
    """The network's output, and the inputs of every module in it."""
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def remember(_: nn.Module, args: tuple[object, ...]) -> None:
            seen.setdefault(name, []).extend(tensor.detach().clone() for tensor in _tensors(args))

        return module.register_forward_pre_hook(remember)

    hooks = [watch(name, module) for name, module in network.named_modules()]
    output = network(*(x.clone() for x in inputs))
    for hook in hooks:
        hook.remove()
    return output, seen


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _gradients(net: BranchedModule, copies: dict[str, nn.Module], own: Owners) -> Iterator[Pair]:
    mine = dict(net.named_parameters())
    theirs = {task: dict(network.named_parameters()) for task, network in copies.items()}
    for name in dict(next(iter(copies.values())).named_parameters()):
        sums: dict[str, list[Tensor]] = {}
        for task in copies:
            owner = own.get((task, name))
            place = f"shared.{name}" if owner is None else f"branches.{owner}.{name}"
            sums.setdefault(place, []).append(_gradient(theirs[task][name]))
        for place, gradients in sums.items():
            yield [_gradient(mine[place])], [torch.stack(gradients).sum(0)]


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _statistics(net: BranchedModule, copies: dict[str, nn.Module], own: Owners) -> Iterator[Pair]:
    mine = dict(net.named_buffers())
    for task, network in copies.items():
        for name, buffer in network.named_buffers():
            owner = own.get((task, name))
            yield [mine[f"shared.{name}" if owner is None else f"branches.{owner}.{name}"]], [buffer]


def _largest(pairs: Iterable[Pair]) -> float:
    """The largest difference over all tensors, relative to the largest value expected; inf for NaN
    or another shape.
    """
    worst = scale = 0.0
    for left, right in pairs:
        for value, expected in zip(left, right, strict=True):
            if value.shape != expected.shape or not value.isfinite().all():
                return float("inf")
            if value.numel():
                worst = max(worst, (value.double() - expected.double()).abs().max().item())
                scale = max(scale, expected.double().abs().max().item())
    return worst / scale if scale else worst
