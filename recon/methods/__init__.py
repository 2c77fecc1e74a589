"""Multi-task optimizers: one file a method, a base for each kind, and a registry of names."""

from recon.methods.cagrad import CAGrad
from recon.methods.graddrop import GradDrop
from recon.methods.joint import Joint
from recon.methods.method import GramianMethod, JacobianMethod, LossMethod, Method, RandomMethod
from recon.methods.mgda import MGDA
from recon.methods.pcgrad import PCGrad
from recon.methods.registry import create_method, list_methods, register_method

__all__ = [
    "MGDA",
    "CAGrad",
    "GradDrop",
    "GramianMethod",
    "JacobianMethod",
    "Joint",
    "LossMethod",
    "Method",
    "PCGrad",
    "RandomMethod",
    "create_method",
    "list_methods",
    "register_method",
]
