"""Ray-cast rooms with exact segmentation, depth and normals; imports the dense data.

``shapes`` and ``textures`` make a ``room``, which ``furnishing`` draws at random. ``render``
follows rays into it, ``sensor`` adds a camera's faults, ``sample`` gives one image with its
targets, and ``folder`` keeps many of them.
"""
