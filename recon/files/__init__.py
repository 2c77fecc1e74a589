"""Files that matter: written whole, sealed, and read with suspicion; imports nothing of Recon."""
