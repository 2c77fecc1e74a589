"""TorchJD's methods as ours, and ours as TorchJD's; imports ``base`` and ``solvers``."""
