"""Networks with parts of each task's own; imports backbones, gradients and branching."""
