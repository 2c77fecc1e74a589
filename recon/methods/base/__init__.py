"""Parts of every method: kind, state, randomness, checks and registered name; imports solvers."""
