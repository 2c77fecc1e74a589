"""What every method is made of: its kind, state, randomness, checks and registered name; imports only
solvers.
"""
