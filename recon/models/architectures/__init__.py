"""Networks with parts of each task's own; imports backbones and gradients."""
