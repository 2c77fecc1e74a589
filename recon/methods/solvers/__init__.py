"""Small exact problems that methods share, on K x K numbers; imports only the ground floor and
gradients.
"""
