"""Pictures as matplotlib axes; imports matplotlib and tasks, and knows maps by their contracts.

Every function draws on the axes that it is given, or on new ones, and returns them, as the
``plot`` methods of torchmetrics do. Colours are told apart by readers of any colour vision, and
marks differ in form too. Names are drawn as they are: a dollar sign starts no formula.
"""

from recon.plot.cosines import cosine_histograms
from recon.plot.curves import training_curves
from recon.plot.gains import delta_m, delta_m_against
from recon.plot.layers import compare_by_layer, conflict_by_layer, rates_by_layer
from recon.plot.matrices import common_layers, rank_correlations
from recon.plot.over_steps import conflict_over_steps
from recon.plot.pairs import task_pairs
from recon.plot.tree import branches

__all__ = [
    "branches",
    "common_layers",
    "compare_by_layer",
    "conflict_by_layer",
    "conflict_over_steps",
    "cosine_histograms",
    "delta_m",
    "delta_m_against",
    "rank_correlations",
    "rates_by_layer",
    "task_pairs",
    "training_curves",
]
