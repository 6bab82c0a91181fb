"""Other rasterizers, to be timed beside facerecon's: 3DDFA_V2's Sim3DR (C++) and Embree."""

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIM3DR_FLAGS = ("-O3", "-march=native", "-std=c++11", "-shared", "-fPIC")
# What Sim3DR's Python function does before each image (clear the buffers), and the call itself.
SIM3DR_ENTRY = """
#include "rasterize.h"
extern "C" void draw(float *vertices, int *triangles, float *depth, int *ids, float *weights,
                     int n_triangles, int height, int width) {
    for (int i = 0; i < height * width; i++) { depth[i] = -1e8f; ids[i] = -1; }
    _rasterize_triangles(vertices, triangles, depth, ids, weights, n_triangles, height, width);
}
"""


class PeerMissing(RuntimeError):
    """A peer cannot be built or imported here; says why."""


def sim3dr(
    checkout: Path | None, folder: Path, projected: np.ndarray, triangles: np.ndarray, size: int
) -> Callable[[], np.ndarray]:
    """Sim3DR's rasterizer over a batch, compiled in `folder`; returns the triangle ids.

    checkout: of https://github.com/cleardusk/3DDFA_V2.
    """
    if checkout is None:
        raise PeerMissing("give a checkout of cleardusk/3DDFA_V2 with --sim3dr")
    sources = checkout / "Sim3DR" / "lib"
    if not (sources / "rasterize_kernel.cpp").is_file():
        raise PeerMissing(f"{sources}: no rasterize_kernel.cpp; --sim3dr wants the checkout's root")
    entry, library = folder / "entry.cpp", folder / "sim3dr.so"
    entry.write_text(SIM3DR_ENTRY)
    command = ["g++", *SIM3DR_FLAGS, "-w", f"-I{sources}", entry, sources / "rasterize_kernel.cpp"]
    try:
        subprocess.run([*map(str, command), "-o", str(library)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerMissing(f"g++ cannot build Sim3DR: {error}") from error
    draw = ctypes.CDLL(str(library)).draw
    faces = triangles.astype(np.int32)
    depth = np.empty((len(projected), size, size), np.float32)
    ids = np.empty((len(projected), size, size), np.int32)
    weights = np.zeros((len(projected), size, size, 3), np.float32)

    def at(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    def run() -> np.ndarray:
        for arrays in zip(projected, depth, ids, weights, strict=True):
            mesh, *buffers = map(at, arrays)
            draw(mesh, at(faces), *buffers, len(faces), size, size)
        return ids

    return run


def embree(projected: np.ndarray, triangles: np.ndarray, size: int) -> Callable[[], np.ndarray]:
    """Embree, its tree built anew for each image, one ray per pixel; returns the triangle ids."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise PeerMissing(f"pip install embreex ({error})") from error
    faces = triangles.astype(np.int32)
    row, column = np.mgrid[:size, :size].astype(np.float32)
    origins = np.stack([column, row, np.full_like(row, projected[..., 2].max() + 10)], axis=-1)
    origins = origins.reshape(-1, 3)
    down = np.tile(np.float32([0, 0, -1]), (len(origins), 1))

    def run() -> np.ndarray:
        ids = []
        for mesh in projected:
            scene = EmbreeScene()
            TriangleMesh(scene, mesh, faces)
            ids.append(scene.run(origins, down).reshape(size, size))
        return np.stack(ids)

    return run
