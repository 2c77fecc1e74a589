"""Multi-task optimizers: one file per method, a base class per kind, and a registry of names.

A method imports ``base`` and ``solvers``, and of the rest of Recon only gradients and errors.
"""

from recon.methods.aligned_mtl import AlignedMTL
from recon.methods.auto_lambda import AutoLambda
from recon.methods.base.kinds import GramianMethod, JacobianMethod, LossMethod
from recon.methods.base.method import Method
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import create_method, list_methods, register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.cagrad import CAGrad
from recon.methods.conflict_free import ConFIG
from recon.methods.conicgrad import ConicGrad
from recon.methods.constant import Constant
from recon.methods.cosmos import COSMOS
from recon.methods.cr_mogm import CRMOGM
from recon.methods.db_mtl import DBMTL
from recon.methods.dualproj import DualProj
from recon.methods.dwa import DWA
from recon.methods.excess_mtl import ExcessMTL
from recon.methods.fairgrad import FairGrad
from recon.methods.famo import FAMO
from recon.methods.fmtl import FMTL
from recon.methods.forum import FORUM
from recon.methods.gls import GLS
from recon.methods.go4align import GO4Align
from recon.methods.graddrop import GradDrop
from recon.methods.gradnorm import GradNorm
from recon.methods.gradops import GradOPS
from recon.methods.gradvac import GradVac
from recon.methods.imtl import IMTL
from recon.methods.imtl_g import IMTLG
from recon.methods.imtl_l import IMTLL
from recon.methods.joint import Joint
from recon.methods.krum import Krum
from recon.methods.log_stch import LogSTCH
from recon.methods.log_sum import LogSum
from recon.methods.metabalance import MetaBalance
from recon.methods.mgda import MGDA
from recon.methods.moco import MoCo
from recon.methods.modo import MoDo
from recon.methods.moml import MOML
from recon.methods.nash_mtl import NashMTL
from recon.methods.ntkmtl import NTKMTL
from recon.methods.pbi import PBI
from recon.methods.pcd import PCD
from recon.methods.pcgrad import PCGrad
from recon.methods.psmgd import PSMGD
from recon.methods.rlw import RLW
from recon.methods.rotograd import RotoGrad
from recon.methods.samo import SAMO
from recon.methods.sdmgrad import SDMGrad
from recon.methods.stch import STCH
from recon.methods.tchebycheff import Tchebycheff
from recon.methods.torchjd.interop import TorchJD, to_torchjd
from recon.methods.trimmed_mean import TrimmedMean
from recon.methods.upgrad import UPGrad
from recon.methods.uw import UW
from recon.methods.uw_so import UWSO
from recon.moved import renamed

__all__ = [
    "COSMOS",
    "CRMOGM",
    "DBMTL",
    "DWA",
    "FAMO",
    "FMTL",
    "FORUM",
    "GLS",
    "IMTL",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "MOML",
    "NTKMTL",
    "PBI",
    "PCD",
    "PSMGD",
    "RLW",
    "SAMO",
    "STCH",
    "UW",
    "UWSO",
    "AlignedMTL",
    "AutoLambda",
    "CAGrad",
    "ConFIG",
    "ConicGrad",
    "Constant",
    "DualProj",
    "ExcessMTL",
    "FairGrad",
    "GO4Align",
    "GradDrop",
    "GradNorm",
    "GradOPS",
    "GradVac",
    "GramianMethod",
    "JacobianMethod",
    "Joint",
    "Krum",
    "LogSTCH",
    "LogSum",
    "LossMethod",
    "MetaBalance",
    "Method",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "RandomMethod",
    "RotoGrad",
    "SDMGrad",
    "StatefulMethod",
    "Tchebycheff",
    "TorchJD",
    "TrimmedMean",
    "UPGrad",
    "create_method",
    "list_methods",
    "register_method",
    "to_torchjd",
]

__getattr__ = renamed(__name__)
