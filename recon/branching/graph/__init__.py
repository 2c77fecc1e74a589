"""A backbone that torch.fx can trace, as a graph whose shared part runs once.

Imports ``reads`` and the files of the folder above.

``trace``     a backbone's forward as a graph
``hooks``     hooks that a trace cannot hold
``memory``    operations that write into, or pass on, the memory of their inputs
``split``     the graph with the shared part run once and the rest once per task
``program``   that graph as a function
``programs``  the programs of a network, one per way of calling it and per state
"""
