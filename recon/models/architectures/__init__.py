"""Networks with parts of each task's own, made of a backbone; imports backbones, gradients and branching."""
