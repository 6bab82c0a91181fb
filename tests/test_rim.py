"""The rim of a mesh: what is trimmed, and where it is cut."""

import numpy as np
import pytest
import torch

from facerecon.camera import pose_parameters
from facerecon.depth import depth_to_mesh
from facerecon.mesh import counted_edges
from facerecon.rasterize import interpolate
from facerecon.render import curved_surface
from facerecon.rim import cut_mesh, rim_level, trim_rim


def test_the_rim_of_a_ball_loses_its_teeth_and_the_front_stays():
    size, mm = 80, 2.0
    axis = torch.arange(size) - (size - 1) / 2
    radius = (axis[:, None] ** 2 + axis[None] ** 2).sqrt() * mm
    mask = radius < 70
    depth = torch.where(mask, (70.0**2 - radius**2).clamp(min=0).sqrt(), torch.nan)
    kept = trim_rim(depth, mask, mm, max_slope=2.0)
    assert (kept <= mask).all() and kept[radius < 58].all()  # slope 2 is reached at 62.6 mm
    assert not kept[radius > 65].any()
    before, after = (depth_to_mesh(depth, each, mm, 60.0) for each in (mask, kept))

    def longest_edge(mesh):
        corners = mesh.vertices[mesh.triangles]
        return (corners - corners.roll(1, 1)).norm(dim=2).max()

    assert longest_edge(after) < 6 < 12 < longest_edge(before)


def test_islands_and_threads_are_trimmed_but_not_the_image_border():
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[:30, :30] = True
    mask[33:39, 33:39] = True  # an island of 36 pixels
    mask[10, 30:38] = True  # a thread
    kept = trim_rim(torch.zeros(40, 40), mask, 1.0)
    assert kept[:26, :26].all() and not kept[31:].any() and not kept[:, 32:].any()
    assert not trim_rim(torch.zeros(8, 8), torch.zeros(8, 8, dtype=torch.bool), 1.0).any()


def test_a_steep_place_inside_the_face_stays():
    mask = torch.ones(40, 40, dtype=torch.bool)
    depth = torch.zeros(40, 40)
    depth[15:25, 15:25] = 5.0  # walls of slope 5, closed, no outline near
    assert trim_rim(depth, mask, 1.0).all()
    depth[15:25, 15:25] = 50.0
    trimmed = trim_rim(depth, mask, 1.0, rounding=1.0, island_share=0.01, hole_share=0.01)
    assert not trimmed[15, 15] and trimmed[20, 20] and trimmed[5, 5]  # an occlusion


def test_the_rim_keeps_steep_places_inside():
    row, column = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    away = ((row - 30) ** 2 + (column - 30) ** 2).sqrt()
    depth = 15 * torch.sigmoid(20 * (6 - away))  # a cylinder: its side is a jump
    assert trim_rim(depth, torch.ones(60, 60, dtype=torch.bool), 1.0).all()


def test_a_strip_beside_the_face_goes_and_the_border_of_the_picture_stays():
    mask = torch.zeros(80, 80, dtype=torch.bool)
    mask[:60, 20:60] = True  # reaches the picture's upper border
    mask[30:36, 60:74] = True  # the strip
    kept = trim_rim(torch.zeros(80, 80), mask, 1.0)
    assert not kept[:, 66:].any()
    assert kept[0, 24:56].all()
    assert trim_rim(torch.zeros(80, 80), mask, 1.0, strip_mm=1.0)[:, 66:].any()


def rim_of(mesh) -> torch.Tensor:
    """Vertices of the rim."""
    edges, count = counted_edges(mesh.triangles)
    return torch.unique(edges[count == 1])


def test_a_cut_lies_on_the_level_line_and_on_the_surface():
    size, mm, radius = 80, 0.8, 30.3
    at = torch.arange(size) - (size - 1) / 2
    away = (at[:, None] ** 2 + at[None] ** 2).sqrt()
    depth = (0.5 * at[None] - 0.25 * at[:, None]) * mm  # a plane: dz/dx 0.5, dz/dy 0.25
    whole = depth_to_mesh(depth, torch.ones(size, size, dtype=torch.bool), mm)
    mesh = cut_mesh(whole, radius - away)
    rim = rim_of(mesh)
    # The level is linear along an edge but for its curvature: (1 px)^2 / (8 * 30 px).
    assert (mesh.vertices[rim, :2].norm(dim=1) / mm - radius).abs().max() < 0.01
    x, y, z = mesh.vertices.T
    error = (z - 0.5 * x - 0.25 * y).abs()
    # Along the rim the vertices are unevenly spaced, so their means are not quite on the plane.
    assert error.max() < 0.2 and error[away_from(rim, len(z))].max() < 1e-4
    torch.testing.assert_close(mesh.uv[:, 0] * size - size / 2, x / mm, atol=1e-3, rtol=0)
    torch.testing.assert_close((mesh.uv[:, 1] - 0.5) * size, y / mm, atol=1e-3, rtol=0)
    corners = mesh.vertices[mesh.triangles][..., :2]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    assert area.min() > -1e-6  # still counter-clockwise
    assert area.sum() == pytest.approx(np.pi * (radius * mm) ** 2, rel=1e-3)
    _, count = counted_edges(mesh.triangles)
    assert count.max() == 2 and len(rim) == (count == 1).sum()  # one closed curve


def away_from(rim: torch.Tensor, count: int) -> torch.Tensor:
    chosen = torch.ones(count, dtype=torch.bool)
    chosen[rim] = False
    return chosen


@pytest.mark.parametrize("level", [1.0, -1.0])
def test_a_cut_beside_the_mesh_keeps_all_or_nothing(level):
    whole = depth_to_mesh(torch.zeros(6, 6), torch.ones(6, 6, dtype=torch.bool), 1.0)
    mesh = cut_mesh(whole, torch.full((6, 6), level))
    assert len(mesh.triangles) == (50 if level > 0 else 0)


def roughness(mesh) -> float:
    """How much the rim's right side turns to and fro, seen from 40 degrees aside: mm per mm."""
    x, y, z = mesh.vertices[rim_of(mesh)].double().numpy().T
    side = (np.abs(y) < 45) & (x > 20)
    order = np.argsort(y[side])
    turned = (np.cos(np.deg2rad(40)) * x + np.sin(np.deg2rad(40)) * z)[side][order]
    course = np.interp(np.arange(-45.0, 46), y[side][order], turned)
    return float(np.abs(np.diff(course, 2)).sum())


@pytest.mark.parametrize("person", range(3))
def test_the_rim_of_a_head_is_smooth_from_the_side(model, person):
    r = torch.zeros(1, model.n_coefficients + 6)
    torch.manual_seed(person)
    r[0, : model.n_identity] = torch.randn(model.n_identity)
    surface = curved_surface(model, r, 200)
    mm = 1 / pose_parameters(r[:, -6:], 200).scale.item()
    depth, mask = surface.depth[0, 0], surface.fragments.mask[0, 0]
    beside = model.ears_and_neck[None, :, None]
    beside = interpolate(beside, surface.fragments, model.triangles)[0, 0]
    level = rim_level(depth, mask, beside, mm)
    assert ((level > 0) <= mask).all() and level.abs().max() <= 1
    cut = cut_mesh(depth_to_mesh(depth, mask, mm, 25.0), level)
    trimmed = trim_rim(depth, mask & (beside < 0.5), mm)
    trimmed = depth_to_mesh(depth, trimmed, mm, 25.0)
    assert roughness(cut) < 5 and roughness(cut) < 0.4 * roughness(trimmed)
    deep = [np.ptp(each.vertices[:, 2].numpy()) for each in (cut, trimmed)]
    assert deep[0] > 0.88 * deep[1]  # and the sides are not simply left out


def test_what_lies_beside_the_face_is_cut_off_between_pixels():
    mm, size = 1.0, 100
    beside = ((torch.arange(size)[:, None] - 60.3) / 20 + 0.5).clamp(0, 1).expand(size, size)
    everywhere = torch.ones(size, size, dtype=torch.bool)
    level = rim_level(torch.zeros(size, size), everywhere, beside.contiguous(), mm)
    mesh = cut_mesh(depth_to_mesh(torch.zeros(size, size), everywhere, mm), level)
    row = (1 - mesh.uv[:, 1]) * size - 0.5
    assert abs(row.max() - 60.3) < 1
    below = (row > 58) & ~away_from(rim_of(mesh), len(row))
    below &= mesh.vertices[:, 0].abs() < 30  # the corners are round
    assert below.sum() > 50 and row[below].std() < 0.1  # a straight line
    assert 0 < row.min() < 1.5  # the picture ends it as an outline does


def test_no_face_has_no_rim():
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    assert (rim_level(torch.zeros(4, 4), nothing, torch.zeros(4, 4), 1.0) == -1).all()


@pytest.mark.parametrize("width, kept", [(12, False), (30, True)])
def test_a_strip_that_hangs_behind_a_cliff_goes(width, kept):
    row = torch.arange(140.0)[:, None]
    deep = (1.5 * torch.minimum(row - 30, 110 - row)).clamp(0, 30)  # down a slope, and up again
    depth = torch.where(torch.arange(100) < 60, 0.0, -deep)
    mask = (torch.arange(100) < 60 + width).expand(140, 100)
    trimmed = trim_rim(depth, mask, mm_per_pixel=1.0)
    assert trimmed[70, 20] and trimmed[70, 54]  # before the cliff
    assert bool(trimmed[70, 60 + width // 2]) is kept


def test_a_rim_that_is_nearly_along_the_rows_has_no_steps():
    """Rows that end the mask 25 pixels further each, up to the picture's border."""
    row, column = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    mask = (row * 25 > column - 40) & (column > 20) & (column < 140) & (row < 100)
    level = rim_level(torch.zeros(120, 160), mask, torch.zeros(120, 160), 1.0)
    mesh = cut_mesh(depth_to_mesh(torch.zeros(120, 160), mask, 1.0), level)
    rim = rim_of(mesh)
    x, y = mesh.vertices[rim, 0] + 79.5, 59.5 - mesh.vertices[rim, 1]
    top = (y < 20) & (x > 55) & (x < 106)
    order = x[top].argsort()
    course = np.interp(np.arange(56.0, 105), x[top][order], y[top][order])
    assert np.abs(np.diff(course, 2)).max() < 0.15  # steps that stay have 0.57
    assert np.diff(course).min() > -0.01


def test_an_eye_that_hangs_at_its_brow_behind_the_nose_goes():
    """Behind a cliff two parts of 20 mm: one held above and below stays, one held above goes."""
    row, column = torch.meshgrid(torch.arange(140.0), torch.arange(100.0), indexing="ij")
    deep = (1.5 * torch.minimum(row - 30, 110 - row)).clamp(0, 30)
    depth = torch.where(column < 60, 0.0, -deep)
    bridge = column < 82
    flap = bridge & ((column < 60) | (row < 80))
    held, hangs = (trim_rim(depth, mask, mm_per_pixel=1.0) for mask in (bridge, flap))
    assert held[70, 70] and not hangs[70, 70]
    assert hangs[70, 50] and hangs[20, 70]  # before the cliff, and the brow


def test_the_wall_behind_a_nose_is_smoothed():
    """A cliff whose place jitters from row to row, as at a slanted outline in pixels."""
    row, column = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    jitter = 2.0 * (row.long() // 3 % 2)
    inside = ((row - 30).abs() < 18).float()
    depth = 16 * inside * torch.sigmoid(8 * (column - 30 - jitter))
    everywhere = torch.ones(60, 60, dtype=torch.bool)
    whole = depth_to_mesh(depth, everywhere, 1.0, 25.0)
    mesh = cut_mesh(whole, torch.ones(60, 60))

    def ridges(vertices):
        x, y, z = vertices.T
        wall = ((x - 1).abs() < 4) & (y.abs() < 10)
        return sum(z[wall & (x == at)].std().item() for at in x[wall].unique())

    assert ridges(mesh.vertices) < 0.4 * ridges(whole.vertices)
    flat = (mesh.vertices[:, 0] - 1).abs() > 10  # nothing else moves
    flat &= (mesh.vertices[:, 0].abs() < 25) & (mesh.vertices[:, 1].abs() < 10)  # no rim, no end
    assert (mesh.vertices[flat, 2] - whole.vertices[flat, 2]).abs().max() < 1e-3
