"""The parts of a run from its configuration: data, backbone, and what they come to."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from recon.branching.growth import flops as count_flops
from recon.configuration import build_object


def data_of(configuration: Mapping[str, Any]) -> pl.LightningDataModule:
    """The data module of a fit configuration."""
    try:
        return build_object(pl.LightningDataModule, configuration["data"], "fit.data")
    except ValueError as error:
        hint = " (--data gives the root)" if "root" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error


def backbone_of(configuration: Mapping[str, Any]) -> nn.Module:
    """The backbone of a fit configuration, before any branching."""
    return build_object(nn.Module, configuration["model"]["backbone"], "fit.model.backbone")


def with_root(configuration: dict[str, Any], root: str | None) -> dict[str, Any]:
    """A copy of a fit configuration whose data are read from the folder ``root``, when that is given."""
    configuration = deepcopy(configuration)
    if root is not None:
        configuration["data"]["init_args"] = {**(configuration["data"].get("init_args") or {}), "root": root}
    return configuration


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters of the modules together."""
    return sum(p.numel() for module in modules for p in module.parameters())


def flops(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Floating-point operations of one forward pass of one sample, as torch counts them (a multiply-add is two)."""
    with torch.no_grad():
        return count_flops(module.eval(), torch.zeros(1, *input_shape, device=next(module.parameters()).device))
