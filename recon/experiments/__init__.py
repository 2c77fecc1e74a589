"""Benchmarks: a plan of runs, its execution, delta-m, tables and figures."""

from recon.experiments.launch import RunsFailed, benchmark
from recon.experiments.plan import Plan
from recon.experiments.report.report import Report

__all__ = ["Plan", "Report", "RunsFailed", "benchmark"]
