"""The ways through a step, one of which each step takes; imports methods and gradients."""
