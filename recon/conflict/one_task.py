"""Layers of a map that one task alone trained, such as heads within the shared part."""

import warnings

from recon.conflict.measured import MeasuredMap

_NAMED = 5


def layers_of_one_task(cmap: MeasuredMap) -> list[str]:
    """Return the layers that had gradients of one task alone in all observed steps.

    >>> import torch
    >>> from recon import ConflictAnalyzer
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    >>> analyzer = ConflictAnalyzer(network, tasks=["seg", "depth"])
    >>> analyzer.observe(torch.tensor([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]))
    >>> layers_of_one_task(analyzer.conflict_map())
    ['1']

    Args:
        cmap: The map. Where only one task had gradients at all, no layer is told apart.
    """
    had = cmap.gradient_norms > 0  # NaN without a gradient
    if int(had.any(dim=0).sum()) < 2:
        return []
    return [layer for layer, tasks in zip(cmap.layers, had.sum(dim=1).tolist(), strict=True) if tasks == 1]


def warn_of_layers_of_one_task(cmap: MeasuredMap) -> None:
    """Warn of layers in a map that the tasks do not share; for a method that makes the map."""
    layers = layers_of_one_task(cmap)
    if layers:
        names = ", ".join(layers[:_NAMED]) + (f" and {len(layers) - _NAMED} more" * (len(layers) > _NAMED))
        warnings.warn(
            f"layers of one task alone in all observed steps: {names}; they have no cosine, and count in the map with "
            "score 0; hand over the part that the tasks share, without their heads",
            stacklevel=3,
        )
