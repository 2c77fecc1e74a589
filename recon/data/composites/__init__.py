"""Images that lie over each other, one task per layer; imports files and tasks."""

from recon.data.composites.module import Composites, CompositesModule

__all__ = ["Composites", "CompositesModule"]
