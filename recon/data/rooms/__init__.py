"""Ray-cast rooms with exact segmentation, depth and normals.

``shapes`` and ``textures`` make a ``scene``, which ``furnishing`` draws at random; ``render`` follows rays into it,
``sensor`` spoils what they bring, ``sample`` is one image with its targets, and ``folder`` keeps many of them.
"""
