"""TorchJD's aggregators as methods of ours, and ours as theirs; imports base and solvers."""
