"""Benchmarks, from a plan to its table; they may import everything but the command line.

``plan``, ``entry``       methods x variants x seeds, and the runs that follow from them
``fit``                   the plan's configuration and data folder, from which a run is built
``preflight``             all checks before any training
``launch``, ``outcomes``  a plan carried out, and the results and failures of its runs
``scheduler``             which run begins when
``job``, ``run``          one run: its layers and configuration; its training and test
``grid``, ``choice``      settings to choose from on held-out training data, and the best
``sweep``                 settings that Optuna proposes one after another
``controls``, ``width``   layers and widths of the controls of + Recon
``folder``                files and lock of the results
``identity``              what makes a run the run that it is; ``canonical``: its configuration
``shelf``                 a plan that changed gets the runs that it has; others go aside
``plan_record``           the plan of a folder; runs of earlier versions
``origin``                versions, device, date and commit of a result
``result``, ``contents``  the possible values of a result; the identity of data by content
``dry_run``               what a benchmark would do and cost, told before it is carried out
``executors``             the processes that carry out jobs, here or on a cluster
``only``, ``resources``   some runs of a plan; what a run takes of a cluster
``report``                delta-m, tables, figures and predictions
``map_preview``, ``toy``  a conflict map on another network; methods in the plane
"""

from recon.experiments.executors.executor import RunsFailed
from recon.experiments.launch import benchmark
from recon.experiments.plan import Plan
from recon.experiments.report.report import Report
from recon.moved import renamed

__all__ = ["Plan", "Report", "RunsFailed", "benchmark"]

__getattr__ = renamed(__name__)
