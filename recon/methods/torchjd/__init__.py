"""The bridge to TorchJD, in both directions: its methods as ours, and ours as its."""
