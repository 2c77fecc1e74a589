"""Where the tasks fight: streaming statistics of a search, the conflict map they make, and the layers it selects."""

from recon.conflict.analyzer import ConflictAnalyzer
from recon.conflict.comparison import MapComparison, compare, describe
from recon.conflict.map import BIN_EDGES, ConflictMap, ImportedMap, MeasuredMap, read_map
from recon.conflict.selection import first_layers, last_layers, random_layers

__all__ = [
    "BIN_EDGES",
    "ConflictAnalyzer",
    "ConflictMap",
    "ImportedMap",
    "MapComparison",
    "MeasuredMap",
    "compare",
    "describe",
    "first_layers",
    "last_layers",
    "random_layers",
    "read_map",
]
