"""The page docs/methods.md, made from the methods themselves.

python -m recon.methods.catalogue.page docs/methods.md
"""

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import fill
from typing import get_args

import torch

from recon.files.atomic import write_atomically
from recon.methods.base import registry
from recon.methods.base.kinds import GramianMethod, JacobianMethod, LossMethod
from recon.methods.base.method import Method
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import create_method
from recon.methods.catalogue.markdown import WIDTH, defaults, described, item, plain, table
from recon.methods.catalogue.properties import ENTRIES, MEANING, Property

COMMAND = "python -m recon.methods.catalogue.page docs/methods.md"

KINDS = {
    "Losses": "One backward per step. Heads are weighted like all other parameters.",
    "Gramian": "One backward per task; the K x K inner products of the task gradients decide the weights. Each head "
    'has the gradient of its own task. With `at="representation"` the task gradients are taken in the features.',
    "Jacobian": "One backward per task; the method takes the task gradients themselves, in every shared parameter. "
    "Each head has the gradient of its own task.",
}

_PREFACE = f"""\
<!-- Made by `{COMMAND}`; edit the docstrings of the methods instead. -->

# Methods

`recon.create_method("cagrad", c=0.4)` makes a method; case and separators of the name do not
matter. A YAML file or the command line sets `model.method` and `model.method_options`. The error for
a wrong hyperparameter names the allowed values.

* *State* is kept from step to step: `small`, as large as the task gradients (`K x P`), or `learned`
  by the network's optimizer. A *random* method draws from a generator of its own, which the run
  seeds. The checkpoint holds both.
* *Scale*: K equal task gradients g give an update of about K g (`sum`) or about g (`mean`).
  `update_scale="sum"`, the default of `MultiTaskModule`, multiplies mean-scaled methods by K, so
  that all match the summed loss at one learning rate.
* A method that *evaluates again* needs the losses more than once per step: train with
  `engine.step(closure, optimizer)`. One that needs *validation batches* learns its weights from
  held-out data in each step: `engine.step(closure, optimizer, validation=...)`.

`recon toy` draws the paths of all methods on two conflicting objectives in the plane. To write your
own method, see [your method](your-method.md).
"""

_PROMISES = """\
## Promises

The update of every method is finite for finite gradients. The other promises are declared in
`recon/methods/catalogue/properties.py` and tested entry by entry, over random, degenerate and badly
scaled gradients. For methods with state or randomness, a promise is about the first update. An empty
cell is no promise.
"""

_TRAINING = """\
## Several processes, missing labels, accumulation

Task gradients are summed over micro-batches and processes before the method sees them. So a method
gives the same update however a batch is divided.

* *Task gradients in several processes*: each process holds some columns of the Jacobian. `slices`:
  this is enough, because the method needs inner products or works element by element. `whole rows`:
  the rows are gathered in every process, as in one process. `none`: the method needs losses alone.
* *Missing labels*: a step concerns the tasks that are there. The state of the others stands still,
  and no optimizer moves what is learned of them. A single task that is there trains plainly.
* *Accumulation*: `engine.accumulate`, or `accumulate_grad_batches` of Lightning's trainer.

The exceptions are `refused`, with an error that names the method. `famo` looks at the losses of the
batch again after the step, and several micro-batches have no such batch. `fmtl` and `samo` evaluate
each task at perturbed parameters of its own. These follow from the whole gradient of the whole
batch, which no micro-batch and no process has. `moml`, `auto_lambda` and `forum` evaluate at the
parameters after virtual steps, which follow from the whole batch too.

`torchjd` is refused some objects: those that draw random numbers in several processes, and those
with state or numbers of each task where labels are missing.

Sums in another order differ by rounding, which two methods may magnify: `sdmgrad` at its published
step size, at which its descent does not settle, and `krum` where two tasks are nearly as near to the
others ([several processes](results/processes.md)).
"""


def page() -> str:
    """Return the page in Markdown: an overview by kind, the promises, and each docstring."""
    methods = {name: create_method(name) for name, cls in sorted(registry._registered.values()) if _is_ours(cls)}
    parts = [_PREFACE]
    for kind, cost in KINDS.items():
        members = {name: method for name, method in methods.items() if _kind(method) == kind}
        parts.append(f"## {kind}\n\n{fill(cost, WIDTH)}\n\n{_overview(members.items())}")
    parts.append(f"{_TRAINING}\n{_training(methods)}")
    parts.append(f"{_PROMISES}\n{_legend()}\n{_promises()}")
    parts.append("## One by one\n")
    parts += [_section(name, method) for name, method in methods.items()]
    return "\n".join(parts)


def _is_ours(cls: type[Method]) -> bool:
    return cls.__module__.startswith("recon.")


def _kind(method: Method) -> str:
    return (
        "Losses" if isinstance(method, LossMethod) else "Gramian" if isinstance(method, GramianMethod) else "Jacobian"
    )


def _overview(methods: Iterable[tuple[str, Method]]) -> str:
    rows = [
        [
            f"[`{name}`](#{name})",
            _title(method),
            ", ".join(f"`{parameter}` {value}".strip() for parameter, value in defaults(type(method)).items()),
            _state(name),
            "yes" if isinstance(method, RandomMethod) else "",
            method.scale,
            _also_needs(name, method),
        ]
        for name, method in methods
    ]
    return table(["name", "method", "hyperparameters (default)", "state", "random", "scale", "also needs"], rows)


def _title(method: Method) -> str:
    return _documentation(method).splitlines()[0].rstrip(".")


def _documentation(method: Method) -> str:
    """The docstring of the method's module, with references to Python objects as Markdown."""
    return plain(inspect.getdoc(inspect.getmodule(type(method))) or "")


def _state(name: str) -> str:
    """The size of a method's state."""
    method = create_method(name)
    method.bind(4)
    if list(method.parameters()):
        return "learned"
    buffers = list(method.buffers())
    if any(buffer.numel() == 0 for buffer in buffers):
        return "K x P"
    return "small" if buffers else ""


def _also_needs(name: str, method: Method) -> str:
    """What the method needs beyond one evaluation and the gradients."""
    needs = {
        "losses": not isinstance(method, LossMethod) and not _works_without_losses(name),
        "evaluates again": type(method).step is not Method.step,
        "validation batches": method.needs_validation,
    }
    return ", ".join(need for need, needed in needs.items() if needed)


def _works_without_losses(name: str) -> bool:
    try:
        create_method(name).combine(torch.eye(4))
    except ValueError:
        return False
    return True


def _training(methods: Mapping[str, Method]) -> str:
    rows = [
        [
            f"`{name}`",
            _task_gradients(method),
            "refused" if method.needs_all_tasks else "yes",
            "yes" if method.accumulates else "refused",
        ]
        for name, method in methods.items()
    ]
    return table(["", "task gradients in several processes", "missing labels", "accumulation"], rows)


def _task_gradients(method: Method) -> str:
    """What a method needs of the task gradients in each of several processes."""
    if method.needs_one_process:
        return "refused"
    if isinstance(method, LossMethod):
        return "none"
    slices = not isinstance(method, JacobianMethod) or method.elementwise
    return "slices" if slices else "whole rows"


def _legend() -> str:
    return "".join(item(f"*{name}*: {meaning}") for name, meaning in MEANING.items())


def _promises() -> str:
    properties: tuple[Property, ...] = get_args(Property)
    rows = [[f"`{entry.label}`", *("✓" if p in entry.properties else "" for p in properties)] for entry in ENTRIES]
    return table(["", *properties], rows)


def _section(name: str, method: Method) -> str:
    meanings = described(type(method))
    lines = [
        item(f"`{parameter}`{f' ({default})' if default else ''}: {meanings.get(parameter, '')}".rstrip(": "))
        for parameter, default in defaults(type(method)).items()
    ]
    return f"### {name}\n\n{_documentation(method)}\n" + ("\n" + "".join(lines) if lines else "")


if __name__ == "__main__":
    write_atomically(Path(sys.argv[1]), page())
