"""The searches of a plan for its conflict maps: when they end, and on which network they run."""

from collections.abc import Mapping
from typing import Any

from recon.experiments.fit import Fit
from recon.experiments.typed import read_dataclass
from recon.training.searching.proxy import Proxy
from recon.training.searching.stopping import Stable, StopOptions


def stop_options(content: Mapping[str, Any] | None, top: int, severity: float) -> StopOptions | None:
    """When searches end, by the key ``stop`` of a plan.

    >>> stop_options({"stable": {"window": 200}}, top=5, severity=-0.1)
    StopOptions(stable=Stable(window=200, top=5, severity=-0.1, changes=1))

    Args:
        content: The value of the key; ``None`` for searches that go to the end of training.
        top: The number of layers that the plan branches, for a selection that names none.
        severity: The plan's severity.

    Raises:
        ValueError: A key is unknown or missing, or a value is refused.
    """
    if content is None:
        return None
    if set(content) != {"stable"}:
        raise ValueError(f"stop has the keys {', '.join(content) or 'none'}; give stop: {{stable: {{window: 200}}}}")
    stable = content["stable"]
    given = {"top": top, "severity": severity, **stable} if isinstance(stable, dict) else stable
    if isinstance(stable, dict) and given["top"] == 1:
        given.setdefault("changes", 0)
    try:
        return StopOptions(read_dataclass(Stable, given, "stop.stable"))
    except ValueError as error:
        raise ValueError(f"stop.stable: {error}") from error


def narrow(fit: Fit, proxy: Mapping[str, Any] | None) -> Fit:
    """The fit of the network that is searched in place of a wide one.

    Args:
        fit: The fit of the wide network.
        proxy: Arguments of its backbone that differ; ``None`` for no other network.
    """
    if proxy is None:
        return fit
    backbone = fit.configuration["model"]["backbone"]
    backbone = {"class_path": backbone} if isinstance(backbone, str) else backbone
    arguments = {**(backbone.get("init_args") or {}), **proxy}
    return fit.with_model({"backbone": {**backbone, "init_args": arguments}})


def check_proxy(fit: Fit, proxy: Mapping[str, Any]) -> None:
    """Refuse a proxy whose layers are others than those of the network.

    Args:
        fit: The fit of the network.
        proxy: Arguments of the proxy's backbone that differ.

    Raises:
        ValueError: An argument is unknown or refused, or the layers differ.
    """
    try:
        module = narrow(fit, proxy).command().model
    except ValueError as error:
        raise ValueError(f"proxy: {error}") from error
    Proxy(module, dict(proxy)).check_same_layers(fit.command().model)
