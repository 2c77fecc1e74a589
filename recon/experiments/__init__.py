"""Benchmarks: a plan of runs, its execution, delta-m, tables and figures."""

from recon.experiments.executors.executor import RunsFailed
from recon.experiments.launch import benchmark
from recon.experiments.plan import Plan
from recon.experiments.report.report import Report

__all__ = ["Plan", "Report", "RunsFailed", "benchmark"]
