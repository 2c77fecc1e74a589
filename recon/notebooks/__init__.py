"""The HTML that notebooks show of maps, networks and reports; imports nothing of ours."""

from recon.notebooks.table import bar, table

__all__ = ["bar", "table"]
