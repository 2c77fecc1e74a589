"""Tables of what comes with Recon, made from the code.

Data modules, kinds of tasks, backbones and architectures: ``recon list`` decides which there are;
docstrings, signatures and example networks say what they are. ``pages.py`` hands the functions
below to its templates. So a new class is on its page, or the check of the pages fails.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor, nn

from recon.branching.growth import flops
from recon.cli.commands import COMMANDS
from recon.cli.listing import names_of
from recon.errors import unknown_name
from recon.experiments.cost import count_parameters
from recon.gradients.layers import shared_layers
from recon.gradients.wrappers import NotShared, unshared_layers
from recon.methods.catalogue.markdown import WIDTH, defaults, described, item, plain, table
from recon.models import MLP, ResNet18, RotatedHeads, SegNet, create_architecture
from recon.models.architectures.rotation import Rotation
from recon.training.branch_options import network_for

CONFIGS = Path(__file__).parents[1] / "configs"
LONGEST_DEFAULT = 60
"""Characters; a longer default is left to its description."""

CITATION = re.compile(
    r"""([A-Z]\w+(?:(?:,[ ]|[ ]&[ ])[A-Z]\w+)*(?:[ ]et[ ]al\.)?),[ ]  # authors
    "[^"]+",[ ](?:and[ ][^"]+,[ ]"[^"]+",[ ])?                     # title, and a second paper of the same place
    ([^.;"]*?\d{4})                                                # place and year""",
    re.VERBOSE,
)

TASKS = ("a", "b")
PIXELS = 36
CHANNELS = 8
"""Of the networks by which architectures are measured."""


def data_sets(*names: str) -> str:
    """The data modules, all or those named: tasks, numbers of samples, shapes, files."""
    rows = [
        [
            f"[`{name}`](data.md#{name.lower()})",
            _tasks(data),
            _samples(cls),
            " x ".join(f"{size:,}" for size in data.input_shape) if data else "",
            _files(cls),
            "yes" if "held_out" in _settings(cls) else "no",
        ]
        for name, cls in _chosen("data", names).items()
        for data in [_made(cls, root="DATA")]
    ]
    return table(["", "tasks", "samples", "one input", "files", "`held_out`"], rows).rstrip()


def data_sections() -> str:
    """A section for each data module: what it is, its paper, its arguments, its configurations."""
    return "\n".join(_data_section(name, cls) for name, cls in _chosen("data").items()).rstrip()


def kinds_of_tasks() -> str:
    """The kinds of tasks, with predictions, targets, losses and metrics."""
    rows = [
        [
            f"`{name}({', '.join(_required(kind))})`",
            *_shapes(kind),
            _first_line(getattr(task.loss, "func", task.loss)),  # of a partial the function
            ", ".join(f"`{metric}`" for metric in task.metrics()),
        ]
        for name, kind in _chosen("tasks").items()
        for task in [_made(kind, name="task", classes=3, labels=3)]
    ]
    return table(["kind", "prediction", "target", "loss", "metrics"], rows).rstrip()


def backbones() -> str:
    """The backbones, with their arguments and their size where the defaults make one."""
    rows = [
        [
            f"`{name}`",
            _first_line(make),
            _arguments(make),
            *((str(len(shared_layers(network))), f"{count_parameters(network):,}") if network else ("", "")),
            _source(make),
        ]
        for name, make in _chosen("backbones").items()
        for network in [_made(make)]
    ]
    return table(["", "", "arguments (default)", "layers", "parameters", "source"], rows).rstrip()


def architectures() -> str:
    """The architectures: what tasks share in them, and what they cost."""
    rows = []
    for name, make in _chosen("architectures").items():
        network, shared = _example(name, make)
        ratios = [measure(network) / measure(shared) for measure in (count_parameters, _flops)]
        rows.append([f"`{name}`", _source(make), *_parts(network), *(f"x {ratio:.2f}" for ratio in ratios)])
    header = ["name", "source", "shared: scored, and branched by Recon", "not shared", "parameters", "FLOPs"]
    return table(header, rows).rstrip()


def architecture_arguments() -> str:
    """The classes of the architectures, and their arguments."""
    rows = [[f"`{name}`", f"`{make.__name__}`", _arguments(make)] for name, make in _chosen("architectures").items()]
    return table(["name", "in `recon.models`", "arguments (default)"], rows).rstrip()


def _chosen(kind: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Last word of the name -> class or function; all, or some in the order asked for."""
    known = {path.rpartition(".")[2]: one for path, one in names_of(kind).items()}
    if unknown := [name for name in names if name not in known]:
        raise unknown_name(f"name of {kind}", unknown[0], known)
    return {name: known[name] for name in names or known}


def _first_line(documented: object) -> str:
    return plain((inspect.getdoc(documented) or "").partition("\n")[0]).rstrip(".")


def _source(one: Any) -> str:
    """Authors, place and year of the first paper that its module cites, or that of a base."""
    for cls in [base for base in getattr(one, "__mro__", [one]) if base.__module__.startswith("recon.")]:
        text = " ".join((inspect.getdoc(inspect.getmodule(cls)) or "").split())
        if cited := CITATION.search(text):
            return f"{cited[1]}, {cited[2]}"
    return ""


def _required(make: Callable[..., Any]) -> list[str]:
    """The arguments that have no default."""
    parameters = inspect.signature(make).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def _arguments(make: Callable[..., Any]) -> str:
    return ", ".join(f"`{name}` {default}".strip() for name, default in defaults(make).items())


def _made(make: Callable[..., Any], **values: Any) -> Any:
    """What it makes of its defaults and these values; nothing if it needs others."""
    try:
        return make(**{name: values[name] for name in _required(make)})
    except (KeyError, ValueError):
        return None


def _tasks(data: Any) -> str:
    names = [f"`{task.name}`" for task in data.tasks] if data else []
    return ", ".join(names) if len(names) <= 5 else f"{len(names)}: {names[0]}, ..., {names[-1]}"


def _samples(cls: Any) -> str:
    """The official numbers by split, or the default ones of a set that may have any number."""
    if official := getattr(cls, "expected", None):
        return ", ".join(f"{number:,} {split}" for split, number in official.items())
    parameters = inspect.signature(cls).parameters
    asked = [
        f"{parameters[name].default:,} {split}"
        for split in ("train", "val", "test")
        if (name := f"{split}_size") in parameters
    ]
    return f"{', '.join(asked)}; any number" if asked else ""


def _files(cls: type) -> str:
    """Where the files come from, in a few words."""
    prepared = [name for name in COMMANDS if name.startswith("data prepare ")]
    for command in prepared:
        if command.split()[-1].replace("_", "") == cls.__name__.lower():
            return f"`recon {command}`"
    if "root" in _required(cls):
        return "downloaded" if "downloaded" in described(cls)["root"] else "by hand, as published"
    return "" if _required(cls) else "built in"


def _settings(cls: type) -> set[str]:
    """The names of all arguments, those that are handed on to a base too."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("recon.")]
    return {name for base in bases for name in inspect.signature(base).parameters}


def _data_section(name: str, cls: type) -> str:
    meanings = described(cls)
    points = []
    for argument, default in defaults(cls).items():
        shown = f" ({default})" if default and len(default) <= LONGEST_DEFAULT else ""
        points.append(item(f"`{argument}`{shown}: {meanings[argument]}"))
    pattern = re.compile(rf"recon\.data\.{name}\b")
    configured = [path for path in sorted(CONFIGS.rglob("*.yaml")) if pattern.search(path.read_text())]
    if configured:
        points.append(item("In " + ", ".join(f"`configs/{path.relative_to(CONFIGS)}`" for path in configured)))
    source = f" Source: {_source(cls)}." if _source(cls) else ""
    return f"### {name}\n\n{fill(f'{_first_line(cls)}.{source}', WIDTH)}\n\n{''.join(points)}"


def _shapes(kind: Callable[..., Any]) -> tuple[str, str]:
    """What a head of a task predicts and what its targets are, as the docstring says."""
    text = " ".join((inspect.getdoc(kind) or "").split())
    found = re.search(r"Predictions are (.+?), targets (.+?)\. The loss ", text)
    if found is None:
        raise ValueError(
            f"the docstring of {kind.__name__} does not say 'Predictions are ..., targets .... The loss is ...'; add it"
        )
    return plain(found[1]), plain(found[2])


def _example(name: str, make: Callable[..., Any]) -> tuple[nn.Module, nn.Module]:
    """The network of two tasks, and the one that both tasks would share instead.

    Arguments without a default have the value of their name below, and some others fit them.
    """
    backbone = ResNet18(width=CHANNELS)
    if name == "rotograd":
        return _Rotated(backbone), backbone
    stages = {f"layer{number + 1}": CHANNELS * 2**number for number in range(4)}
    values = {
        "backbone": backbone,
        "expert": backbone,
        "levels": [backbone, MLP(backbone.num_features, [backbone.num_features])],
        "stages": stages if name in ("cross_stitch", "mtan") else list(stages),
    }
    fitting = {
        "input_layer": nn.Conv2d(1, 1, kernel_size=3, padding=1),
        "gate_inputs": PIXELS**2,
        "expansion": 1,
        "width": CHANNELS,
        "in_channels": 1,
    }
    if unknown := [argument for argument in _required(make) if argument not in values]:
        raise ValueError(f"architecture {name!r} needs {unknown[0]!r}; give it a value here, in {Path(__file__).name}")
    options = {argument: values[argument] for argument in _required(make)}
    options |= {argument: value for argument, value in fitting.items() if argument in defaults(make)}
    network = network_for(create_architecture(name, **options), TASKS, None)
    return network, SegNet(CHANNELS, in_channels=1) if name == "segnet_mtan" else backbone


class _Rotated(nn.Module):
    """A backbone, and the rotations of its features."""

    def __init__(self, backbone: ResNet18) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = RotatedHeads({task: nn.Identity() for task in TASKS}, size=backbone.num_features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        return {task: head(features) for task, head in self.heads.items()}


def _flops(network: nn.Module) -> int:
    return flops(network.eval(), torch.zeros(1, 1, PIXELS, PIXELS))


def _parts(network: nn.Module) -> tuple[str, str]:
    """The parts of a network that are shared, and those that are not, by their paths."""
    shared = {*shared_layers(network)}
    own = {path for path, module in network.named_modules() if isinstance(module, NotShared | Rotation)}
    own |= {*unshared_layers(network)}
    return _largest(shared, own), _largest(own, shared)


def _largest(layers: set[str], others: set[str]) -> str:
    """The largest modules that hold some of these layers and none of the others."""
    if not others:
        return "all layers"
    found = set()
    for layer in layers:
        words = layer.split(".")
        length = 1
        while any(f"{other}.".startswith(f"{'.'.join(words[:length])}.") for other in others):
            length += 1
        if length < len(words) and _placeholder(words[length]) != words[length]:
            length += 1
        found.add(".".join(map(_placeholder, words[:length])))
    return ", ".join(f"`{path}`" for path in sorted(found))


def _placeholder(word: str) -> str:
    return "<number>" if word.isdigit() else "<task>" if word in TASKS else word
