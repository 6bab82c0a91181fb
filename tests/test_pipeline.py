import cv2
import numpy as np
import pytest
import torch
from skimage import data as photographs

from facerecon import on_photo
from facerecon.appearance import model_maps
from facerecon.camera import N_POSE
from facerecon.coarsenet import CoarseNet, CoarseNetConfig, iterate
from facerecon.detection.detect import CROP_MARGIN, Box, NoFaceError
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.imaging import ImageError, load_image, to_grey
from facerecon.mesh import counted_edges
from facerecon.pipeline import ReconstructionError, Reconstructor, SmallFaceWarning
from facerecon.rasterize import interpolate
from facerecon.reconstruction import MIN_DETAILED
from facerecon.render import render

CENTERED = Box(100 - 100 / CROP_MARGIN, 100 - 100 / CROP_MARGIN, *[200 / CROP_MARGIN] * 2)
"""The box whose crop is the whole of an image of 200 x 200 pixels."""


def coarsenet(model, bias=None) -> CoarseNet:
    """A random CoarseNet; its last bias sets what it answers, roughly."""
    torch.manual_seed(1)
    network = CoarseNet(
        model.n_coefficients, CoarseNetConfig(width=4, points=0, both_sides=False)
    ).eval()
    if bias is not None:
        network.regressor.bias.data.copy_(bias)
    return network


def finenet() -> FineNet:
    """A random FineNet whose detail is a few tenths of a mm."""
    torch.manual_seed(2)
    network = FineNet(FineNetConfig(width=4, regressor=(8, 8))).eval()
    torch.nn.init.normal_(network.regress3.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def reconstruct(model):
    bias = 0.3 * torch.randn(
        model.n_coefficients + N_POSE, generator=torch.Generator().manual_seed(3)
    )
    bias[-N_POSE:] = torch.tensor([0.05, 0.15, -0.1, 0.1, -0.05, 0.1])
    return Reconstructor(model, coarsenet(model, bias), finenet(), iterations=3)


@pytest.fixture(scope="module")
def astronaut():
    return load_image(photographs.astronaut())


@pytest.fixture(scope="module")
def portrait(astronaut):
    return astronaut[13:213, 123:323].copy()


@pytest.fixture(scope="module")
def face(reconstruct, portrait):
    return reconstruct(portrait, CENTERED)


def test_on_the_crops_grid_it_is_iterate_render_refine(reconstruct, portrait, face, model):
    grey = torch.from_numpy(to_grey(portrait))[None, None]
    with torch.no_grad():
        steps = iterate(reconstruct.coarsenet, model, grey, 3)
        rendering = render(model, steps[-1], 200)
        coarse = model_maps(model, steps[-1], 200).depth
        scale = rendering.projected.new_tensor([1 / face.mm_per_pixel])
        fine = reconstruct.finenet(grey, coarse, rendering.mask, 1 / scale)
    assert len(face.iterations) == 4
    for kept, step in zip(face.iterations, steps, strict=True):
        np.testing.assert_allclose(kept, step[0], atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([face.coefficients, face.pose]), steps[-1][0], atol=1e-5
    )
    # Crop and photograph coincide up to rounding, which may move a pixel of the outline.
    same = face.mask == rendering.mask[0, 0].numpy()
    assert (~same).mean() < 2e-4
    both = face.mask & same
    np.testing.assert_allclose(face.coarse_depth_mm[both], coarse[0, 0][both], atol=0.02)
    np.testing.assert_allclose(face.depth_mm[both], fine[0, 0][both], atol=0.02)
    assert np.abs(face.depth_mm - face.coarse_depth_mm)[both].max() > 0.2
    assert np.isnan(face.depth_mm[~face.mask]).all()
    assert np.isnan(face.coarse_depth_mm[~face.mask]).all()


def test_mesh_lies_on_the_depth_map(face):
    column = face.vertices[:, 0] / face.mm_per_pixel + 99.5
    row = 99.5 - face.vertices[:, 1] / face.mm_per_pixel
    at = np.rint(row).astype(int), np.rint(column).astype(int)
    away = np.hypot(column - at[1], row - at[0])
    edges, count = counted_edges(torch.from_numpy(face.faces))
    inside = away < 1e-3
    inside[edges[count == 1].unique()] = False  # the rim lies between pixels, and is smoothed
    assert inside.mean() > 0.95 and away.max() <= 0.71
    seen = face.mask[at] & inside
    assert seen.mean() > 0.95
    off = np.abs(face.vertices[seen, 2] - face.depth_mm[at][seen])
    assert (off < 0.02).mean() > 0.98  # walls, as of a nose before the cheek, are smoothed
    assert len(face.vertices) > 0.75 * face.mask.sum()  # the steep rim is trimmed
    np.testing.assert_allclose(face.uv[:, 0], (column + 0.5) / 200, atol=1e-4)


def test_landmarks_are_vertices_of_the_coarse_mesh(face, model):
    points = face.coarse_vertices[model.landmarks.numpy()]
    column = points[:, 0] / face.mm_per_pixel + 99.5
    row = 99.5 - points[:, 1] / face.mm_per_pixel
    np.testing.assert_allclose(face.landmarks, np.stack([column, row], 1), atol=1e-2)


def test_results_follow_the_photographs_resolution(reconstruct, portrait, face):
    large = portrait.repeat(3, axis=0).repeat(3, axis=1)
    box = Box(CENTERED.x * 3, CENTERED.y * 3, CENTERED.width * 3, CENTERED.height * 3)
    tripled = reconstruct(large, box)
    assert tripled.mm_per_pixel == pytest.approx(face.mm_per_pixel / 3, rel=1e-5)
    np.testing.assert_allclose(tripled.landmarks, (face.landmarks + 0.5) * 3 - 0.5, atol=0.01)
    centers = tripled.depth_mm[1::3, 1::3], tripled.coarse_depth_mm[1::3, 1::3]
    both = np.isfinite(centers[0]) & face.mask
    assert both.sum() > 0.999 * face.mask.sum()
    np.testing.assert_allclose(centers[1][both], face.coarse_depth_mm[both], atol=0.02)
    np.testing.assert_allclose(centers[0][both], face.depth_mm[both], atol=0.02)
    np.testing.assert_allclose(tripled.vertices, face.vertices, atol=0.02)


def test_the_place_in_the_photograph_does_not_matter(reconstruct, astronaut, face):
    moved = Box(CENTERED.x + 123, CENTERED.y + 13, CENTERED.width, CENTERED.height)
    there = reconstruct(astronaut, moved)
    assert there.depth_mm.shape == astronaut.shape[:2]
    window = np.s_[13:213, 123:323]
    np.testing.assert_allclose(there.landmarks - (123, 13), face.landmarks, atol=1e-2)
    both = there.mask[window] & face.mask
    assert both.sum() > 0.999 * there.mask.sum()
    np.testing.assert_allclose(there.depth_mm[window][both], face.depth_mm[both], atol=0.02)


def test_strips_join_without_a_seam(reconstruct, portrait, face, monkeypatch):
    monkeypatch.setattr(on_photo, "_STRIP_PIXELS", 200 * 7)
    strips = reconstruct(portrait, CENTERED)
    assert (strips.mask != face.mask).mean() < 2e-4  # rounding at the outline
    both = strips.mask & face.mask
    np.testing.assert_allclose(strips.depth_mm[both], face.depth_mm[both], atol=0.02)


class OneMillimetre(FineNet):
    """Brings the whole face 1 mm nearer."""

    def forward(self, image, depth, mask, mm_per_pixel):
        return depth + mask.to(depth)


def test_detail_does_not_fade_at_the_outline(reconstruct, portrait):
    nearer = Reconstructor(reconstruct.model, reconstruct.coarsenet, OneMillimetre())
    large = portrait.repeat(3, axis=0).repeat(3, axis=1)
    face = nearer(large, Box(*(3 * v for v in (CENTERED.x, CENTERED.y, *[CENTERED.width] * 2))))
    added = (face.depth_mm - face.coarse_depth_mm)[face.mask]
    # Slivers of the outline that reach no pixel center of the crop's grid stay as they are.
    assert (np.abs(added - 1) < 1e-3).mean() > 0.999


def test_without_refinement_the_depth_is_the_coarse_one(reconstruct, portrait, face):
    coarse = reconstruct(portrait, CENTERED, refine=False)
    np.testing.assert_array_equal(coarse.depth_mm, coarse.coarse_depth_mm)
    np.testing.assert_array_equal(coarse.coarse_depth_mm, face.coarse_depth_mm)
    without = Reconstructor(reconstruct.model, reconstruct.coarsenet, None, iterations=3)
    np.testing.assert_array_equal(without(portrait, CENTERED).depth_mm, coarse.depth_mm)


def test_the_mesh_of_a_turned_face_ends_before_ears_and_neck(model, portrait):
    bias = torch.zeros(model.n_coefficients + N_POSE)
    bias[-N_POSE + 1] = 1.2  # 34 degrees of yaw
    turned = Reconstructor(model, coarsenet(model, bias), None, iterations=1)(portrait, CENTERED)
    fragments = render(model, torch.from_numpy(turned.iterations[-1])[None], 200).fragments
    excluded = model.ears_and_neck[None, :, None]
    beside = interpolate(excluded, fragments, model.triangles)[0, 0].numpy()
    column = turned.vertices[:, 0] / turned.mm_per_pixel + 99.5
    row = 99.5 - turned.vertices[:, 1] / turned.mm_per_pixel
    shown = beside[np.rint(row).astype(int), np.rint(column).astype(int)]
    assert np.quantile(shown, 0.999) < 0.5  # the outline's vertices move within a pixel
    assert shown.max() < 0.9
    assert len(shown) > 8000 and (beside > 0.5).sum() > 1000


def test_detects_the_face_itself(reconstruct, astronaut):
    found = reconstruct(astronaut)
    assert found.box.overlap(Box(177, 68, 93, 93)) > 0.7
    assert found.mask.sum() > 2000
    assert found.normals.shape == astronaut.shape


def test_all_faces(reconstruct, astronaut):
    head = astronaut[30:200, 140:310]
    both = np.full((400, 700, 3), 0.4, np.float32)
    both[20:190, 10:180] = head
    both[30:370, 300:640] = head.repeat(2, axis=0).repeat(2, axis=1)
    first, second = reconstruct(both, all_faces=True)
    assert first.landmarks[:, 0].min() > 300 > second.landmarks[:, 0].max()
    assert not (first.mask & second.mask).any()
    assert reconstruct(both).box == first.box


def crowd(astronaut, sides) -> np.ndarray:
    """A photograph of one head again and again, in these sizes."""
    head = astronaut[30:200, 140:310]
    photo = np.full((max(sides), sum(sides), 3), 0.4, np.float32)
    left = 0
    for number, side in enumerate(sides):
        small = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
        photo[:side, left : left + side] = (0.6 + 0.05 * number) * small
        left += side
    return photo


@pytest.mark.parametrize("threads", [1, 2])
def test_all_faces_are_as_each_alone(model, astronaut, threads):
    """With the weights that ship: batches and threads change nothing but the rounding."""
    ours = Reconstructor.from_pretrained()
    photo = crowd(astronaut, [250, 240, 230, 260, 220, 270])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = ours(photo, all_faces=True)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(together) == 6
    assert together[0].box.width == max(face.box.width for face in together)
    for face in together:
        alone = ours(photo, face.box)
        np.testing.assert_allclose(face.iterations, alone.iterations, atol=1e-4)
        assert (face.mask != alone.mask).mean() < 1e-4
        both = face.mask & alone.mask
        off = np.abs(face.depth_mm - alone.depth_mm)[both]
        assert np.median(off) < 1e-3 and np.quantile(off, 0.999) < 0.02
        assert np.abs(alone.depth_mm - alone.coarse_depth_mm)[both].mean() > 0.3


def test_small_faces_are_named_in_order(reconstruct, astronaut):
    photo = crowd(astronaut, [80, 220, 60, 100])
    with pytest.warns(SmallFaceWarning, match="only the coarse shape") as told:
        faces = reconstruct(photo, all_faces=True)
    small = [face for face in faces if face.crop.side < MIN_DETAILED]
    assert 1 < len(small) < len(faces)
    assert [str(each.message) for each in told] == [
        f"the face's crop is {face.crop.side:.0f} pixels wide: only the coarse shape can be"
        f" trusted; detail needs {MIN_DETAILED} or more"
        for face in small
    ]


def test_a_face_that_cannot_be_fitted_is_left_out_unless_it_is_all(
    reconstruct, astronaut, monkeypatch
):
    photo = crowd(astronaut, [200, 220, 240])
    whole, detailed = reconstruct(photo, all_faces=True), reconstruct._detailed
    lost = {whole[1].box}

    def sometimes(photo, box, *rest):
        if box in lost:
            raise ReconstructionError("lost")
        return detailed(photo, box, *rest)

    monkeypatch.setattr(reconstruct, "_detailed", sometimes)
    found = reconstruct(photo, all_faces=True)
    assert [face.box for face in found] == [whole[0].box, whole[2].box]
    lost |= {face.box for face in whole}
    with pytest.raises(ReconstructionError, match="lost"):
        reconstruct(photo, all_faces=True)


def test_a_crop_may_leave_the_photograph(reconstruct, portrait):
    cut = np.ascontiguousarray(portrait[:130])
    face = reconstruct(cut, CENTERED)
    assert face.depth_mm.shape == (130, 200)
    assert face.mask[-1].any()
    lowest = 99.5 - face.vertices[:, 1].min() / face.mm_per_pixel
    assert lowest <= 129.01  # no mesh where there is no photograph


def test_larger_crops_for_larger_faces(model, astronaut):
    large = Reconstructor(model, coarsenet(model), finenet(), size=400)
    doubled = astronaut.repeat(4, axis=0).repeat(4, axis=1)
    face = large(doubled, Box(177 * 4, 68 * 4, 93 * 4, 93 * 4))
    assert face.crop.size == 400
    assert len(face.vertices) > 60_000
    with pytest.warns(SmallFaceWarning, match="112 pixels wide: refined at 200"):
        face = large(astronaut, Box(177, 68, 93, 93))
    assert face.crop.size == 200


@pytest.mark.parametrize("size", [200, 400])
def test_a_very_small_face_is_no_ground_for_detail(model, astronaut, size):
    halved = np.ascontiguousarray(astronaut[::2, ::2])
    with pytest.warns(SmallFaceWarning, match="55 pixels wide: .*only the coarse shape") as told:
        Reconstructor(model, coarsenet(model), None, size=size)(halved, Box(88, 34, 46, 46))
    assert len(told) == 1


def test_our_detail_stage_by_name(model, astronaut):
    ours = Reconstructor.from_pretrained(refine="normals")
    box = Box(177, 68, 93, 93)
    face, coarse = ours(astronaut, box), ours(astronaut, box, refine=False)
    assert ours.finenet is None and Reconstructor.from_pretrained(refine=None).normals is None
    moved = np.abs(face.depth_mm - face.coarse_depth_mm)[face.mask]
    assert 0.3 < moved.mean() < 5  # it corrects the whole surface by some mm
    np.testing.assert_allclose(coarse.depth_mm, coarse.coarse_depth_mm)
    answer = np.split(face.iterations[-1], [model.n_coefficients])
    np.testing.assert_array_equal(coarse.coefficients, answer[0])
    moved = np.abs(face.coefficients - answer[0])  # the identity, by shape from normals
    assert moved[: model.n_identity].max() > 0.1 and moved[model.n_identity :].max() == 0
    np.testing.assert_array_equal(face.pose, answer[1])
    assert np.isfinite(face.vertices).all() and len(face.vertices) > 5_000
    with pytest.raises(ValueError, match="refine must be one of normals, finenet or None"):
        Reconstructor.from_pretrained(refine="wrinkles")


@pytest.mark.parametrize("pose", [[0, 0, 0, 8, 0, 0], [0, 0, 0, 0, 0, -5], [-5, 0, 0, 0, 0, 0]])
def test_a_fit_that_went_astray_is_an_error(model, portrait, pose):
    bias = torch.zeros(model.n_coefficients + N_POSE)
    bias[-N_POSE:] = torch.tensor(pose)  # off to the right; tiny; on its back. Twice.
    lost = Reconstructor(model, coarsenet(model, bias), None, iterations=2)
    with pytest.raises(ReconstructionError, match="outside its crop"):
        lost(portrait, CENTERED)


@pytest.mark.filterwarnings("ignore:the face's crop is")
def test_tiny_photographs_with_a_box_do_not_crash(reconstruct):
    for shape in ((1, 1), (2, 3), (5, 4)):
        photo = np.full((*shape, 3), 0.5, np.float32)
        try:
            face = reconstruct(photo, (0, 0, 1, 1))
        except ReconstructionError:
            continue
        assert face.depth_mm.shape == shape
        assert face.normals.shape == (*shape, 3)


@pytest.mark.parametrize(
    ("box", "cause"),
    [
        ((0, 0, 0, 10), "above 0"),
        ((0, 0, float("nan"), 10), "above 0"),
        ((5000, 0, 10, 10), "outside the image"),
        ((float("nan"), 0, 10, 10), "finite"),
    ],
)
def test_impossible_boxes(reconstruct, portrait, box, cause):
    with pytest.raises(ValueError, match=cause):
        reconstruct(portrait, box)


def test_errors_of_the_photograph_come_through(reconstruct, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        reconstruct(tmp_path / "none.jpg")
    with pytest.raises(NoFaceError):
        reconstruct(np.zeros((100, 100, 3), np.float32))


def test_impossible_settings(model):
    with pytest.raises(ValueError, match="size must be one of"):
        Reconstructor(model, coarsenet(model), None, size=300)
    with pytest.raises(ValueError, match="iterations"):
        Reconstructor(model, coarsenet(model), None, iterations=0)
