"""From finished runs to delta-m, tables, figures and sheets of predictions; imports plan, conflict and tasks."""

from recon.experiments.report.report import Report

__all__ = ["Report"]
