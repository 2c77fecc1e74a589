"""A picture of the agreement of several conflict maps: rank correlations and common top layers."""

from matplotlib.figure import Figure

from recon import plot
from recon.conflict import MapAgreement


def map_agreement(agreement: MapAgreement) -> Figure:
    """Draw rank correlations and common top layers of each pair of maps as two matrices.

    Args:
        agreement: The agreement of two or more maps.
    """
    side = 1.8 + 0.42 * len(agreement.names)
    figure = Figure(figsize=(2 * side + 1.2, side + 0.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot.rank_correlations(agreement, ax=left)
    plot.common_layers(agreement, ax=right)
    return figure
