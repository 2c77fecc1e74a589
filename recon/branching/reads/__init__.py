"""The Python state that a forward reads, and whether it is still as it was when the forward was traced.

``python_state``  the content of a Python value, to be compared later
``surroundings``  the globals and closures that functions read
``reads``         the Python state that a forward reads, and changes
``guard``         whether everything that a trace read is still the same
"""
