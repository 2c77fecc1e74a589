"""Networks that turn an image, or a row of a table, into features; one family a file.

They import dense heads and what stands on the ground floor.
"""
