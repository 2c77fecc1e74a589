"""The report of benchmarks as one HTML file; imports all of experiments that reads results."""
