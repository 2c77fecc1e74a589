"""Executors, which carry out the runs of a plan; they import job, run and plan."""
