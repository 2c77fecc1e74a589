"""Searches in Lightning: for conflict layers, and for a task tree by BMTAS.

It may import everything but experiments and cli.

``conflict``  the search for conflict layers, which writes the map
``stopping``  when it ends, before its training does
``proxy``     a narrow network that is searched in place of a wide one
``options``   the settings of a search for a task tree, as a command line gives them
``halves``    training data in two parts: for the architecture and for the weights
``module``    the LightningModule that searches for a task tree
"""
