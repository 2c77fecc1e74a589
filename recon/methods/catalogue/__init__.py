"""The catalogue of methods: their promised properties, and the page of the documentation.

Imports all methods.
"""
