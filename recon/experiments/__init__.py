"""Benchmarks: a plan of runs, its execution, delta-m, tables and figures."""

from recon.experiments.plan import Plan
from recon.experiments.report import Report
from recon.experiments.runner import RunsFailed, benchmark

__all__ = ["Plan", "Report", "RunsFailed", "benchmark"]
