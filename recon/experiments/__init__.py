"""Benchmarks: a plan of runs, its execution, delta-m, tables and figures."""

from recon.experiments.plan import Plan
from recon.experiments.report.report import Report
from recon.experiments.scheduler import RunsFailed, benchmark

__all__ = ["Plan", "Report", "RunsFailed", "benchmark"]
