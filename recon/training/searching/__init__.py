"""The search for a task tree by BMTAS, in Lightning.

It may import everything but experiments and cli.

``options``  the settings of a search, as a command line gives them
``halves``   training data in two parts: for the architecture and for the weights
``module``   the LightningModule that searches
"""
