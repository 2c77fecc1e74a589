"""Networks that turn an image into features, one family a file.

They import dense heads and what stands on the ground floor.
"""
