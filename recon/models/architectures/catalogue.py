"""The architectures by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from recon.errors import unknown_name
from recon.models.architectures.bmtas.plan import BMTAS
from recon.models.architectures.cgc import CGC
from recon.models.architectures.cross_stitch import CrossStitch
from recon.models.architectures.dselect_k import DSelectK
from recon.models.architectures.hard_sharing import hard_sharing
from recon.models.architectures.ltb import LTB
from recon.models.architectures.mmoe import MMoE
from recon.models.architectures.mtan import SegNetMTAN
from recon.models.architectures.ple import PLE
from recon.models.architectures.rotograd import RotatedHeads
from recon.models.architectures.staged_mtan import MTAN

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "bmtas": BMTAS,
    "cgc": CGC,
    "cross_stitch": CrossStitch,
    "dselect_k": DSelectK,
    "hard_sharing": hard_sharing,
    "ltb": LTB,
    "mmoe": MMoE,
    "mtan": MTAN,
    "ple": PLE,
    "rotograd": RotatedHeads,
    "segnet_mtan": SegNetMTAN,
}
"""Name -> the class or function that makes the network."""


def list_architectures() -> list[str]:
    """Names of all architectures.

    >>> list_architectures()[:3]
    ['bmtas', 'cgc', 'cross_stitch']
    """
    return sorted(ARCHITECTURES)


def create_architecture(name: str, **options: Any) -> nn.Module:
    """Make an architecture by its name: the backbone of a multi-task network, or its heads.

    >>> from recon.models import MLP
    >>> network = create_architecture("mmoe", expert=lambda: MLP(10, [4]), gate_inputs=10)
    >>> type(network).__name__, len(network.experts)
    ('MMoE', 8)

    Args:
        name: A name of :func:`list_architectures`.
        **options: Arguments of its class.

    Returns:
        The backbone; of ``rotograd`` the heads.

    Raises:
        ValueError: There is no such architecture, or it refuses a value.
    """
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, list_architectures())
    return ARCHITECTURES[name](**options)
