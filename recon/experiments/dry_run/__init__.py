"""A benchmark told before it is carried out: its runs, and what they cost.

``preview``   what would be run, reused and resumed
``likeness``  a folder of results without its large files
``trial``     a few steps of a run, measured
``forecast``  time, memory and disk of all runs

They import what carries out a benchmark.
"""
