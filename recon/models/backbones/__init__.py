"""Networks that turn an image into features, one family a file; imports nothing else of Recon but the ground floor."""
