"""Whole and unaltered files: writing, checksums and reading; imports nothing of Recon."""
