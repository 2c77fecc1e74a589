"""The official distributions, converted into the layout that the field uses."""

from recon.data.preparation.cityscapes import prepare_cityscapes
from recon.data.preparation.nyuv2 import prepare_nyuv2
from recon.data.preparation.verification import verify

__all__ = ["prepare_cityscapes", "prepare_nyuv2", "verify"]
