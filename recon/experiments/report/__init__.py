"""Delta-m, tables, figures and sheets of predictions; imports plan, folder, conflict and tasks."""

from recon.experiments.report.report import Report

__all__ = ["Report"]
