"""Runs known by what they are, so that none is trained twice; imports plan, jobs and folder.

``canonical``    a configuration without what does not count
``contents``     the content of data
``identity``     everything that makes a run the run that it is, and its hash
``wanted``       the identities of a plan's runs, as far as they are known
``shelf``        the runs that a folder has: each in its place, or aside
``plan_record``  the plan of a folder, and what earlier versions left there
"""
