"""Conflict between tasks: statistics of a search, the conflict map, and the layers that it selects.

It imports gradients, tasks and branching, which knows the prices of layers.
"""

from recon.conflict.agreement import MapAgreement, agree
from recon.conflict.analyzer import ConflictAnalyzer
from recon.conflict.certainty import describe_certainty, selection_probabilities
from recon.conflict.comparison import MapComparison, compare
from recon.conflict.controls import first_layers, last_layers, random_layers
from recon.conflict.imported import ImportedMap
from recon.conflict.map import ConflictMap, read_map
from recon.conflict.measured import MeasuredMap
from recon.conflict.published_rankings import map_file, published_rankings
from recon.conflict.ranking import DEFAULT_TOP
from recon.conflict.rules import Rule
from recon.conflict.severity import BIN_EDGES, DEFAULT_SEVERITY
from recon.conflict.table import describe, describe_groups

__all__ = [
    "BIN_EDGES",
    "DEFAULT_SEVERITY",
    "DEFAULT_TOP",
    "ConflictAnalyzer",
    "ConflictMap",
    "ImportedMap",
    "MapAgreement",
    "MapComparison",
    "MeasuredMap",
    "Rule",
    "agree",
    "compare",
    "describe",
    "describe_certainty",
    "describe_groups",
    "first_layers",
    "last_layers",
    "map_file",
    "published_rankings",
    "random_layers",
    "read_map",
    "selection_probabilities",
]
