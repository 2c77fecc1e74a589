"""What a branched network must compute, by separate copies of the backbone: one per task, each run on its own."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recon.branching import BranchedModule, branch
from recon.gradients import shared_layers

TASKS = ("left", "right", "third")


def still(network: nn.Module) -> nn.Module:
    """The network in float64, with dropout and stochastic depth switched off, and statistics that are not the default."""
    for module in network.modules():
        for name in ("p", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.double()


def some_layers(network: nn.Module, fraction: float, seed: int = 0) -> list[str]:
    """A random choice of the network's layers, at least one."""
    names = list(shared_layers(network))
    chosen = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    return [names[i] for i in sorted(chosen[: max(1, round(fraction * len(names)))].tolist())]


def differences(
    backbone: nn.Module, layers: Sequence[str], inputs: Sequence[Tensor], training: bool, tasks: Sequence[str] = TASKS
) -> dict[str, float]:
    """The largest difference between a branched network and separate copies of its backbone.

    Every task's copies are moved away from the backbone's weights at random first, so that nothing agrees by chance.

    Returns:
        ``outputs``, ``gradients`` and ``statistics`` -> the largest difference, relative to values above 1.
    """
    net = branch(backbone, layers, tasks).train(training)
    copies = {task: copy.deepcopy(backbone).train(training) for task in tasks}
    own = _names_of(backbone, layers)
    state = net.state_dict(keep_vars=True)
    for task in tasks:
        theirs = copies[task].state_dict(keep_vars=True)
        for name in own:
            with torch.no_grad():
                if theirs[name].is_floating_point():
                    theirs[name].mul_(1 + 0.2 * torch.rand_like(theirs[name]))
                state[f"branches.{task}.{name}"].copy_(theirs[name])
    outputs, expected = net(*inputs), _run_in_turn(copies, inputs, own)

    weights = {task: [torch.randn_like(leaf) for leaf in _leaves(expected[task])] for task in tasks}
    if any(leaf.requires_grad for task in tasks for leaf in _leaves(expected[task])):
        for result in (outputs, expected):
            sum(
                (leaf * weight).sum()
                for task in tasks
                for leaf, weight in zip(_leaves(result[task]), weights[task], strict=True)
            ).backward()  # type: ignore[union-attr]
    return {
        "outputs": _largest((_leaves(outputs[task]), _leaves(expected[task])) for task in tasks),
        "gradients": _largest(_gradients(net, copies, own)),
        "statistics": _largest(_statistics(net, copies, own)),
    }


def _names_of(backbone: nn.Module, layers: Sequence[str]) -> set[str]:
    """The parameters and buffers of layers, by their names in the backbone; a tied one under its first name only."""
    modules = dict(backbone.named_modules())
    first = {name for name, _ in (*backbone.named_parameters(), *backbone.named_buffers())} & set(backbone.state_dict())
    prefixes = {"" if layer not in modules else f"{layer}." for layer in layers}
    return {name for name in first if name[: name.rfind(".") + 1] in prefixes}


def _run_in_turn(copies: dict[str, nn.Module], inputs: Sequence[Tensor], own: set[str]) -> dict[str, object]:
    """Run the copies in task order. A shared module updates its statistics once if its input is the same for all tasks,
    else once per task: then each copy goes on from the statistics that the one before it left."""
    seen: dict[str, list[Tensor]] = {}
    outputs: dict[str, object] = {}
    before: nn.Module | None = None
    for task, network in copies.items():
        first = before is None
        if before is not None:
            for (name, buffer), previous in zip(network.named_buffers(), before.buffers(), strict=True):
                if name not in own:
                    buffer.data.copy_(previous)
        initial = {name: buffer.clone() for name, buffer in network.named_buffers()}
        inputs_of: dict[str, list[Tensor]] = {}
        hooks = [
            module.register_forward_pre_hook(
                lambda _, args, name=name: inputs_of.setdefault(name, []).extend(a.detach().clone() for a in _leaves(args))
            )
            for name, module in network.named_modules()
        ]
        outputs[task] = network(*(x for x in inputs))
        for hook in hooks:
            hook.remove()
        if first:
            seen = inputs_of
        for name, buffer in network.named_buffers():
            owner = name.rpartition(".")[0]
            if not first and name not in own and owner in seen and _same(seen[owner], inputs_of[owner]):
                buffer.data.copy_(initial[name])
        before = network
    return outputs


def _same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def _leaves(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _gradients(
    net: BranchedModule, copies: dict[str, nn.Module], own: set[str]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    mine = dict(net.named_parameters())
    theirs = {task: dict(network.named_parameters()) for task, network in copies.items()}
    for name in next(iter(theirs.values())):
        if name in own:
            for task in copies:
                yield _grad(mine[f"branches.{task}.{name}"]), _grad(theirs[task][name])
        else:
            yield _grad(mine[f"shared.{name}"]), [sum(_grad(theirs[task][name])[0] for task in copies)]  # type: ignore[list-item]


def _grad(parameter: nn.Parameter) -> list[Tensor]:
    return [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad]


def _statistics(
    net: BranchedModule, copies: dict[str, nn.Module], own: set[str]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    mine = dict(net.named_buffers())
    for task, network in copies.items():
        last = task == list(copies)[-1]
        for name, buffer in network.named_buffers():
            if name in own:
                yield [mine[f"branches.{task}.{name}"]], [buffer]
            elif last:
                yield [mine[f"shared.{name}"]], [buffer]


def _largest(pairs: Iterator[tuple[list[Tensor], list[Tensor]]]) -> float:
    """The largest difference, relative to the tensor's largest value where that is above 1; inf where shapes differ."""
    worst = 0.0
    for left, right in pairs:
        for a, b in zip(left, right, strict=True):
            if a.shape != b.shape:
                return float("inf")
            if a.numel():
                scale = max(1.0, b.double().abs().max().item())
                difference = (a.double() - b.double()).abs().max().item() / scale
                worst = max(worst, difference if difference == difference else float("inf"))
    return worst
