"""Conversion of the official distributions into the field's layout.

It imports files, and the layout, the faces, the rooms and the tables for checks.
"""

from recon.data.preparation.celeba import prepare_celeba
from recon.data.preparation.cityscapes import prepare_cityscapes
from recon.data.preparation.nyuv2 import prepare_nyuv2
from recon.data.preparation.pascal_context import prepare_pascal_context
from recon.data.preparation.verification import verify

__all__ = ["prepare_celeba", "prepare_cityscapes", "prepare_nyuv2", "prepare_pascal_context", "verify"]
