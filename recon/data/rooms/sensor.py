"""The faults of a colour camera and of a structured-light depth sensor."""

import numpy as np
from scipy.ndimage import map_coordinates

from recon.data.rooms.render import Hits, hidden
from recon.data.rooms.room import Room
from recon.data.rooms.shapes import Vectors, dot

_BASELINE = 0.075  # metres from the camera to the depth sensor's projector, on its right
_GRAZING = (0.1, 0.2)  # cosine between ray and normal below which depth is surely, and possibly, lost
_JUMP = 0.08  # ratio of neighbouring depths beyond which half of the pixels are lost
_BLOBS = 0.85  # level that noise in [0, 1] must exceed for a blob


def photograph(light: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Expose, vignette, add noise and quantise.

    Args:
        light: ``(3, H, W)``, not negative.
        generator: Source of exposure, white balance, vignette and noise.

    Returns:
        ``(H, W, 3)``, uint8.
    """
    _, height, width = light.shape
    balance = generator.uniform(0.92, 1.08, (3, 1, 1))
    exposure = generator.uniform(0.3, 0.5) / max(light.mean(), 1e-6)
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    vignette = 1 - generator.uniform(0, 0.3) * (rows**2 + columns**2) / 2
    charge = 1 - np.exp(-1.3 * light * balance * exposure * vignette)
    noise = generator.standard_normal(light.shape) * np.sqrt(0.0001 + 0.001 * generator.random() * charge)
    pixels = np.clip(charge + noise, 0, 1) ** (1 / 2.2)
    return np.rint(255 * pixels).astype(np.uint8).transpose(1, 2, 0)


def lost_depth(
    room: Room, hits: Hits, directions: Vectors, shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """The pixels in which a depth sensor sees nothing.

    It loses surfaces that its projector, beside the camera, does not light; surfaces seen at a
    grazing angle; pixels beside a jump of depth; and blobs.

    Args:
        room: The room.
        hits: The first surface on each pixel's ray.
        directions: The rays, ``(3, H * W)``.
        shape: ``(H, W)``.
        generator: Source of random losses.

    Returns:
        ``(H, W)``, bool.
    """
    camera = room.camera
    projector = np.array(camera.position) + _BASELINE * camera.axes[0]
    unlit = hidden(room, hits.points, hits.normals, projector[:, None])
    cosine = -dot(hits.normals, directions) / np.sqrt(dot(directions, directions))
    grazing = cosine < generator.uniform(*_GRAZING, cosine.shape)
    edges = _beside_jump(hits.t.reshape(shape)) & (generator.random(shape) < 0.5)
    return (unlit | grazing).reshape(shape) | edges | _blobs(shape, generator)


def _beside_jump(depth: np.ndarray) -> np.ndarray:
    beside = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        jump = np.abs(np.diff(np.log(depth), axis=axis)) > _JUMP
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 0)
        beside |= np.pad(jump, pad)
        pad[axis] = (0, 1)
        beside |= np.pad(jump, pad)
    return beside


def _blobs(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    coarse = generator.random((7, 9))
    grid = np.meshgrid(*(np.linspace(0, n - 1, m) for n, m in zip(coarse.shape, shape, strict=True)), indexing="ij")
    smooth = map_coordinates(coarse, grid, order=1)
    return smooth + generator.uniform(-0.05, 0.05, shape) > _BLOBS
