"""One image of a random room with its exact targets.

It is a function of (seed, split, index, height, width) alone.
"""

import numpy as np

from recon.data.dense.layout import Split
from recon.data.rooms.furnishing import random_room
from recon.data.rooms.render import cast, shade
from recon.data.rooms.room import Camera, Room
from recon.data.rooms.sensor import lost_depth, photograph
from recon.data.rooms.shapes import dot

_OFFSETS = ((-0.25, -0.25), (0.25, 0.25))  # of the rays whose light a pixel gathers, from its centre


def render_room(seed: int, split: Split, index: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Render a room.

    Returns:
        The arrays by name:

        - ``image`` ``(H, W, 3)``, uint8: the mean of two rays a pixel, with the camera's noise and
          vignette.
        - ``label`` ``(H, W)``, int8: index into :data:`~recon.data.rooms.room.CLASSES`; every pixel
          has one.
        - ``depth`` ``(H, W)``, float32: metres along the optical axis (not along the ray), as in
          NYUv2; 0 where lost.
        - ``normal`` ``(H, W, 3)``, float32: unit vectors that face the camera, in its frame (x
          right, y up, z towards the camera); zero where depth is lost.

        Labels, depths and normals are exact at the centres of pixels. The room does not depend on
        height and width.
    """
    geometry, chance = (np.random.default_rng([seed, split == "val", index, stream]) for stream in (1, 2))
    room = random_room(geometry)
    return {"image": photograph(_light(room, height, width, chance), chance), **_truth(room, height, width, chance)}


def _light(room: Room, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    light = np.zeros((3, height * width))
    for offset in _OFFSETS:
        light += shade(room, cast(room, room.camera.rays(height, width, offset)), generator)
    return light.reshape(3, height, width) / len(_OFFSETS)


def _truth(room: Room, height: int, width: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    directions = room.camera.rays(height, width)
    hits = cast(room, directions)
    lost = lost_depth(room, hits, directions, (height, width), generator)
    depth = np.where(lost, 0, hits.t.reshape(height, width))
    normal = np.where(lost, 0, _seen_by(room.camera, hits.normals).reshape(3, height, width))
    return {
        "label": hits.label.reshape(height, width),
        "depth": depth.astype(np.float32),
        "normal": normal.astype(np.float32).transpose(1, 2, 0),
    }


def _seen_by(camera: Camera, vectors: np.ndarray) -> np.ndarray:
    """Vectors of the world as x right, y up, z towards the camera."""
    right, up, forward = (dot(axis[:, None], vectors) for axis in camera.axes)
    return np.stack([right, up, -forward])
