"""The Python state that a forward reads, and whether it has changed since the trace.

Imports the files of the folder above.

The state is flags and other attributes of the modules of the shared network, the contents of the
lists, dictionaries and objects that they hold, modules, hooks, and plain values that methods read
from globals and closures.

``python_state``  the content of a Python value, to be compared later
``surroundings``  the globals and closures that functions read
``reads``         the Python state that a forward reads, and changes
``guard``         whether everything that a trace read is still the same
"""
