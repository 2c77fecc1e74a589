"""The short help of ``recon fit`` and its siblings; the long one has a thousand lines."""

from types import ModuleType

import pytorch_lightning as pl
from torch import nn

import recon.data
import recon.models
from recon.methods import list_methods

FULL = "--help-all"
"""Asks for the long help."""

_GO_ON = "  --ckpt_path FILE|last             go on from a checkpoint; last: the newest of the runs beside this one\n"
_TRAINED = "  --ckpt_path FILE|last             a checkpoint (required); last: the newest of the runs beside this one\n"
_OWN = {
    "fit": _GO_ON,
    "search": _GO_ON
    + "  --map_path FILE                   where the conflict map is written [conflict_map.json]\n"
    + "  --every N                         observe each n-th step [1]\n"
    + "  --stop.stable.window N            end when the top layers are stable over N steps; .top, .severity, .changes\n"
    + "  --proxy.NAME VALUE                search a narrow backbone with the same layers, as in --proxy.width 8\n"
    + "  --by conflict|bmtas               bmtas: search for the stages that tasks share, and write a task tree\n"
    + "  --bmtas.stages [NAME,...]         and .resource_weight W, .warm_up SHARE, .lr R, ...; --tree_path FILE\n",
    "validate": _TRAINED,
    "test": _TRAINED,
    "predict": _TRAINED + "  --out DIR                         where the predictions are written [predictions]\n",
}
_TIMM = ("recon.models.timm_backbone", "recon.models.timm_pyramid")
_PAGE = """\
usage: recon {command} --config FILE [--KEY VALUE ...]

{what}

  --config FILE                     YAML of the keys below, such as configs/glyphs/fit.yaml; flags win over it
{own}\
  --seed_everything N               of weights, order of the data, methods [0]
  --trainer.max_epochs N            and .accelerator cpu|gpu, .precision 16-mixed|bf16-mixed, .logger CLASS, ...
  --trainer.accumulate_grad_batches N   batches of one step; .gradient_clip_val NORM
  --model.method NAME               and .method_options.NAME VALUE
  --model.backbone CLASS            and .NAME VALUE for its arguments, as in --model.backbone.width 16
  --model.branch.map FILE           and .top N: branch the worst layers of a conflict map; .layers [NAME,...]: these
  --model.branch.tree FILE          share the stages of a task tree, beside or without these
  --model.only [TASK,...]           train these tasks alone
  --model.optimizer CLASS           and .NAME VALUE for its arguments; the same for --model.scheduler
  --data CLASS                      and .NAME VALUE for its arguments, as in --data.root DIR, --data.batch_size N

data sets   {data}
backbones   {models}
methods     {methods}

Classes of your own are named by their module, as in --data my_data.Blobs.
{full} tells of every option; --data.help CLASS and --model.backbone.help CLASS of a class's arguments;
--print_config prints the configuration instead of using it.
"""


def short_help(command: str, what: str) -> str:
    """The help page of a command.

    Args:
        command: One of fit, search, validate, test, predict.
        what: Its purpose, in a sentence.
    """
    return _PAGE.format(
        command=command,
        what=what,
        own=_OWN[command],
        full=FULL,
        data=_wrapped(_classes(recon.data, pl.LightningDataModule)),
        models=_wrapped([*_classes(recon.models, nn.Module), *_TIMM]),
        methods=_wrapped(list_methods()),
    )


def _classes(package: ModuleType, kind: type) -> list[str]:
    """The classes of a kind that a package offers, as a class path names them."""
    members = {name: getattr(package, name) for name in package.__all__}
    found = (name for name, member in members.items() if isinstance(member, type) and issubclass(member, kind))
    return [f"{package.__name__}.{name}" for name in found]


def _wrapped(names: list[str]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > 100:
            lines.append("")
        lines[-1] += f"{name}  "
    return f"\n{' ' * 12}".join(line.rstrip() for line in lines)
