# %% [markdown]
# # Photographs of people who do not exist
#
# **Nobody has photographed thousands of people together with their exact geometry. So
# we sample the geometry, and then take the photograph.**
#
# *Afterwards you can* say how a shaded, shadowed, wrinkled face becomes grey values,
# which of its numbers are labels, how training imitates the iterations of CoarseNet,
# and how to find out what such photographs lack.
# *Paper:* sections 3.2.2 and 3.4, Eq. (3); Eqs. (8) and (9) read as image formation.
# *Time:* about a minute on two CPU cores (`full`: a little longer). *Data:* the
# morphable model that ships; to compare with, two public-domain portraits that come
# with scikit-image and matplotlib. Nothing is downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full": section 10 compares with five times as many photographs
seed = 0  # of everything that is sampled
output_dir = "runs/synthetic_data"  # where figures and result.json go

# %% tags=["imports"]
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import skimage
from IPython.display import display
from matplotlib.cbook import get_sample_data

from facerecon import MorphableModel, camera, coarsenet, losses, mesh, rasterize, render
from facerecon import repro, weights
from facerecon.realism import report as data_report, statistics as image_statistics
from facerecon.synthetic import illumination, studio, world as synthetic, wrinkles
from facerecon.views import viz
import torch  # after facerecon, which tells its threads how to wait

# %%
torch.set_grad_enabled(False)
model = MorphableModel.default()
world = synthetic.SyntheticWorld(model)
base, size = world.config, world.config.size
generator = world.generator(seed)
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)


def pictures(maps):
    """A batch of maps (B, C, H, W) as a list of pictures (H, W) or (H, W, C)."""
    return list(maps.permute(0, 2, 3, 1).squeeze(3).numpy())


# %% [markdown]
# ## 1 Why render what could be photographed?
#
# "[A] large dataset of 3D faces is required. However, due to the complexity in
# acquiring accurate 3D scans for a large group of people, no such dataset is currently
# available" (3.2.2). Reconstructions by other methods could serve as labels, but "would
# limit the reconstruction quality to that of the reconstruction method we use". So the
# paper chooses "to follow the line of thought proposed in [34] and create a synthetic
# dataset by drawing random representations of geometry and pose, $r_{gt}$, which are
# then rendered using random texture, lighting and reflectance". The geometry is then
# "known by construction". Thirty-two such samples; none was chosen:

# %%
faces = world.render(32, world.generator(seed), color=True)
figure = viz.gallery(pictures(faces.image), columns=8, inches=1.2)
figure.savefig(output / "photographs.jpg", dpi=100, pil_kwargs={"quality": 75})
figure

# %% [markdown]
# **The seed is the data set.** Every number above came from one generator. The same
# seed gives the same bytes on the same machine, so training needs no disk. (Another
# processor may round a sum differently. `facerecon data write` stores a set with a
# checksum for each shard.) The time below is measured on this machine, now.

# %% tags=["check"]
again = world.render(32, world.generator(seed), color=True)
other = world.render(32, world.generator(seed + 1), color=True)
changed = (faces.image != again.image).sum() + (faces.r != again.r).sum()
assert changed == 0, f"the same seed changed {changed} numbers, 0 expected"
alike = (faces.image == other.image).float().mean()
assert alike < 1, f"another seed left {alike:.0%} of the pixels alike, below all"

# %% tags=["check"]
plain = synthetic.SyntheticWorld(model, base.plain())  # a shaded face, no more
rates = {}
for name, each in {"all that follows": world, "the plain variant": plain}.items():
    each.render(8, generator)
    start = time.perf_counter()
    each.render(64, generator)
    rates[name] = 64 / (time.perf_counter() - start)
    print(f"{name}: {rates[name]:.0f} grey photographs per second")
slow, fast = rates.values()
assert fast > slow, f"the plain variant makes {fast:.0f} a second, not above {slow:.0f}"

# %% [markdown]
# ## 2 Geometry and pose
#
# $r_{gt}$ is sampled first: identity from a slightly narrowed $N(0, I)$, expressions a
# few units at a time (chapter 1), pose as a face detector would leave it. The paper
# gives no ranges. Ours are in `facerecon.synthetic.config`, one line each. Some
# heads look about toward the camera, as in most photographs; all others are spread
# evenly to both sides, or the network would rarely see a face turned far.

# %%
r = world.sample(5000, generator)
alpha, pose = camera.split(r)
physical = (pose.double() * camera.POSE_UNITS).numpy()
figure, axes = plt.subplots(1, 4, figsize=(10, 2.2), layout="constrained")
for axis, i in zip(axes, [1, 0, 3, 5], strict=True):
    unit = 180 / np.pi if i < 3 else 1
    axis.hist(unit * physical[:, i], bins=60, color="#3b6fb6")
    title = camera.POSE_NAMES[i] + (" in degrees" if i < 3 else "")
    axis.set(title=title, yticks=[])
plt.show()

# %% tags=["check"]
limit, frontal = base.pose.yaw_limit, base.pose.yaw_frontal_std
yaw = np.abs(physical[:, 1])
normal = torch.erf(torch.tensor(2.0).sqrt()).item()  # of samples within two deviations
expected = base.pose.p_frontal * normal
expected += (1 - base.pose.p_frontal) * 2 * frontal / limit
found = (yaw < 2 * frontal).mean()
print(
    f"|yaw| below {np.degrees(2 * frontal):.0f}°: {found:.3f}, expected {expected:.3f}"
)
bound = 4 * np.sqrt(expected * (1 - expected) / len(yaw))
assert abs(found - expected) < bound, f"{found:.3f}, not {expected:.3f} ± {bound:.3f}"
assert yaw.max() <= limit + 1e-6, f"yaw {yaw.max():.4f}, not below {limit:.4f}"

# %% tags=["check"]
spread = alpha[:, : model.n_identity].std()
print(f"identity coefficients vary by {spread:.3f}, {base.identity_std} wanted")
off = abs(spread / base.identity_std - 1)
assert off < 0.01, f"{spread:.3f} is {off:.1%} off {base.identity_std}, not below 1 %"

# %% [markdown]
# ## 3 Albedo: two pigments and a texture
#
# Skin has its color from two pigments, melanin and the blood's haemoglobin. Light on
# its way through them is absorbed exponentially (Beer and Lambert),
# $$\rho_c = \rho_{0,c}\, e^{-m\,a_c - b\,h_c}, \qquad c \in \{R, G, B\},$$
# with the amounts $m$, $b$ and the absorption $a$, $h$ of each. So all skin colors lie
# near a *plane* of $(\log R, \log G, \log B)$. `facerecon.synthetic.skin` samples the
# amounts as smooth fields: tone, blush, freckles, lips. We look for the plane in what
# it samples.

# %%
unshaded = studio.turned(world, skin={"cavity": (0.0, 0.0), "eyelid_shade": (0.0, 0.0)})
skins = unshaded.skin.sample_complexion(64, generator).skin
colors = skins[:, ::50].flatten(0, 1).double().log().numpy()
center = colors.mean(axis=0)
_, s, axes = np.linalg.svd(colors - center, full_matrices=False)
share = s**2 / (s**2).sum()
deviation = s[:2] / np.sqrt(len(colors))
steps = np.linspace(-2, 2, 9)
grid = steps[None, :, None] * deviation[0] * axes[0]
grid = grid + steps[::2, None, None] * deviation[1] * axes[1]
grid = np.exp(center + grid)  # of the plane, two deviations each way

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
left.imshow(grid.clip(0, 1), interpolation="nearest")
left.set(title="the plane of skin colors", xticks=[], yticks=[])
order = skins.mean(dim=(1, 2)).argsort()[[0, 16, 32, 48, 63]]
maps = render.render(model, torch.zeros(5, r.shape[1]), 120)
five = rasterize.interpolate(skins[order], maps.fragments, model.triangles)
row = torch.where(maps.mask, five, 1.0).permute(2, 0, 3, 1).flatten(1, 2)
right.imshow(row.clamp(0, 1))
right.set(title="from the darkest to the palest of 64 skins", xticks=[], yticks=[])
plt.show()

# %% tags=["check"]
print("variance along the axes:", ", ".join(f"{100 * part:.2f} %" for part in share))
print("the first absorbs R, G, B as", (axes[0] / axes[0, 2]).round(2))
assert share[2] < 0.1 * share[1], (
    f"no plane: {share[2]:.2e}, above 0.1 of {share[1]:.2e}"
)
red, green, blue = np.abs(axes[0])  # melanin: blue above all
assert blue > green > red, f"blue {blue:.2f}, green {green:.2f}, red {red:.2f}"

# %% [markdown]
# A vertex is too coarse for pores and stubble. What is finer lies in a square texture,
# the *chart*: each corner of a triangle has a place $(u, v)$ in it, and a pixel takes
# the place that its barycentric weights mix, as in Eq. (6):
# $(u, v) = \lambda_0 (u, v)_0 + \lambda_1 (u, v)_1 + \lambda_2 (u, v)_2$.

# %% tags=["check"]
one = world.sample(1, generator)
one[0, -6:] = torch.tensor([0.0, 0.7, 0.0, 0.5, 0.0, -0.3])
maps = render.render(model, one, 300)
triangle = maps.fragments.triangle.clamp(min=0)
corners = world.chart.coordinates[world.chart.triangles[triangle]]
uv = (maps.fragments.barycentric[..., None] * corners).sum(dim=3)
package = world.chart.at(maps.fragments).permute(0, 2, 3, 1)
seen = maps.mask[:, 0]
error = (uv - package)[seen].abs().max()
inside = (uv[seen].abs() <= 1).all(dim=1).float().mean()
print(f"largest difference {error:.1e}; {inside:.0%} of the pixels lie in the chart")
assert error < 1e-5, f"{error:.1e}, not below 1e-5"
assert inside > 0.9, (
    f"{inside:.0%}, not above 90 %"
)  # but eyeballs, inside of the mouth

# %%
complexion = world.skin.sample_complexion(1, generator)
texture = world.texture.sample(1, generator, color=True)
reflectance = rasterize.interpolate(complexion.skin, maps.fragments, model.triangles)
deviation = world.chart.sample(texture, world.chart.at(maps.fragments))
mean_face = world.chart.position[None].permute(0, 3, 1, 2) / 200 + 0.5
strands = world.strands.sample(1, generator)
panels = {
    "the chart's mean face": torch.where(world.chart.mask, mean_face, 1.0),
    "texture, tenfold": 0.5 + 5 * texture.mean(1, keepdim=True),
    "strands of hair": 0.5 + 0.2 * strands,
    "albedo of the vertices": torch.where(maps.mask, reflectance, 1.0),
    "with texture": torch.where(maps.mask, reflectance * (1 + deviation), 1.0),
}
viz.gallery([pictures(p)[0] for p in panels.values()], list(panels), 5, inches=2)

# %% [markdown]
# ## 4 Light
#
# A matt surface sends on what it receives, whatever the direction (Lambert). Far lamps
# of strength $k$ in direction $\omega$ give it $k\max(0, \langle\omega, n\rangle)$. All
# the rest, sky and walls, varies slowly: nine spherical harmonics $Y$ of the normal are
# enough for it, of which Eq. (9) has the first four. Folds see less of the
# surroundings: *ambient occlusion* $o$. Toward the key lamp something may stand in the
# way: *shadow* $s$. A face then receives
# $$E = o\,\langle \vec l, Y(n)\rangle + s\,k_1\max(0, \langle\omega_1, n\rangle) +
# k_2\max(0, \langle\omega_2, n\rangle).$$

# %%
lamp = torch.nn.functional.normalize(torch.tensor([[-0.75, 0.35, 0.6]]), dim=1)
light = illumination.sample_light(base.light, 1, 3, generator)
bright = light.environment.clone()
bright[:, 0] = 0.5
light = light._replace(environment=bright, key_direction=lamp)
light = light._replace(key=torch.ones(1, 3), fill=0.3 * light.tint)
n, (x, y, z) = maps.normals, maps.normals.unbind(1)
Y = [torch.ones_like(x), x, y, z]
Y = torch.stack([*Y, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], dim=1)
around = torch.einsum("bt,bthw->bhw", light.environment, Y)[:, None]
lambert = [light.key_direction, light.fill_direction]
key, fill = (torch.einsum("bk,bkhw->bhw", d, n)[:, None].clamp(min=0) for d in lambert)
o, s = torch.rand(2, 1, 1, 300, 300, generator=generator)
k_0, k_1, k_2 = (each[:, :, None, None] for each in (light.tint, light.key, light.fill))
E = around * o * k_0 + key * s * k_1 + fill * k_2

# %% tags=["check"]
used = (maps.mask & (around > 0.1)).expand(-1, 3, -1, -1)  # light cannot be negative
error = (E - illumination.irradiance(light, n, o, s))[used].abs().max()
print(f"light: largest difference {error:.1e}")
assert error < 1e-5, f"{error:.1e}, not below 1e-5"
# Oily skin mirrors the lamp as well. GGX: D of n halfway between lamp and viewer.
half = torch.nn.functional.normalize(lamp + torch.tensor([0.0, 0.0, 1.0]), dim=1)
shiny = light._replace(roughness=torch.full((1, 1), 0.4))
c, a = torch.einsum("bk,bkhw->bhw", half, n)[:, None].clamp(0, 1), 0.4**2
D = (a**2 / (c**2 * (a**2 - 1) + 1)) ** 2  # 1 at its peak
near = maps.mask & (z[:, None] > 0.9) & (key > 0.3)  # at slopes, Fresnel brightens
error = (D - illumination.highlight(shiny, n))[near].abs().max()
print(f"highlight: largest difference {error:.1e}, most {D[near].max():.2f}")
assert error < 2e-3, f"{error:.1e}, not below 2e-3"

# %% [markdown]
# **Cast shadows.** A point lies in shadow where a ray from it to the lamp hits the
# face. Trying all triangles for each point is simple and slow. A *shadow map* is fast:
# render the face as the lamp sees it, with the rasterizer that we have; a point farther
# away than the depth rendered there is in shadow. The map's texels are coarse, so a
# point counts only when it is some millimetres below (`shadow_bias`), or skin would
# shadow itself. Here are rays for some points, to test the map.

# %%
vertices = camera.to_camera(model.vertices(one[:, :-6]), one[:, -6:])
normals = mesh.vertex_normals(vertices, model.triangles)[0]
lit_side = (normals @ lamp[0] > 0.2).nonzero()[:, 0]
chosen = lit_side[torch.randperm(len(lit_side), generator=generator)[:300]]
points = vertices[0] + base.light.shadow_offset * normals
first, second, third = vertices[0][model.triangles].unbind(dim=1)
e1, e2 = second - first, third - first
facing = torch.linalg.cross(e1, e2) @ lamp[0] > 1e-4
first, e1, e2 = first[facing], e1[facing], e2[facing]
inverse = torch.linalg.inv(torch.stack([e1, e2, -lamp.expand_as(e1)], dim=2))
blocked = []
for point in points[chosen]:  # point + away * lamp = first + u * e1 + v * e2
    u, v, away = (inverse @ (point - first)[..., None])[..., 0].T
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (away > base.light.shadow_bias)
    blocked.append(hit.any())

# %% tags=["check"]
seen = illumination.visibility(
    vertices,
    model.triangles,
    points[None],
    lamp,
    base.light.shadow_texels,
    base.light.shadow_bias,
    torch.tensor(0.5),
)
dark, map_dark = torch.stack(blocked), seen[0, chosen] < 0.5
shadowed, alike = dark.float().mean(), (dark == map_dark).float().mean()
print(f"{shadowed:.0%} of the points that face the lamp are in shadow;")
print(f"ray and map agree on {alike:.1%}")
assert 0.03 < shadowed < 0.9, f"{shadowed:.0%} in shadow, 3 to 90 % expected"
assert alike > 0.95, f"they agree on {alike:.1%}, not above 95 %"

# %%
constant = torch.stack([world.occlusion, seen[0]], dim=1)[None]
o, s = rasterize.interpolate(constant, maps.fragments, model.triangles).split(1, dim=1)
gloss = 0.15 * illumination.highlight(shiny, n) * s * o * k_1
sums = {"surroundings": around * k_0, "× occlusion": around * o * k_0, "shadow": s}
sums["+ key lamp"] = sums["× occlusion"] + key * s * k_1
sums["+ fill lamp"] = sums["+ key lamp"] + fill * k_2
shown = {name: 0.7 * light for name, light in sums.items()} | {"shadow": s}
shown |= {"× albedo": (1 + deviation) * reflectance * sums["+ fill lamp"]}
shown |= {"+ highlight": shown["× albedo"] + gloss}
panels = [pictures(torch.where(maps.mask, p, 1.0))[0] for p in shown.values()]
lamps_view = viz.mesh_normals(vertices[0].numpy(), model.triangles.numpy(), 300, 51, 20)
panels = [viz.shaded(lamps_view), *panels]
figure = viz.gallery(panels, ["from the lamp", *shown], columns=4, inches=1.9)
figure.savefig(output / "light.png", dpi=80)
figure

# %% [markdown]
# ## 5 Wrinkles are geometry
#
# The paper's synthetic faces are smooth: "there is no known model that captures the
# diversity of fine facial details" (4.3). Ours have procedural wrinkles, so that
# CoarseNet learns to look past them and the truth of FineNet's task is at hand for
# tests. A wrinkle is a height $h$ in mm along the normal. The pixel stays where it is,
# and there the surface comes nearer by $h / n_z$:
# $$z' = z + \frac{h}{n_z}, \qquad n' \propto n + n_z\Big(-\frac{\partial}{\partial
# x}\frac{h}{n_z},\ -\frac{\partial}{\partial y}\frac{h}{n_z},\ 0\Big).$$

# %%
smile = one.clone()
for name in ("mouthSmileLeft", "mouthSmileRight", "browInnerUp"):
    i = model.expression_index(name)
    smile[0, i] = 0.8 / model.expression_std[i - model.n_identity]
relief = world.relief.sample(camera.split(smile)[0], torch.ones(1, 1), generator)
mm, surfaces = {}, {}
for pixels in (200, 400):
    coarse = render.render(model, smile, pixels)
    mm[pixels] = 1 / camera.pose_parameters(camera.split(smile)[1], pixels).scale
    h = world.chart.sample(relief, world.chart.at(coarse.fragments))
    surfaces[pixels] = coarse, h
n, z, h = coarse.normals[0].numpy(), coarse.depth[0, 0].numpy(), h[0, 0].numpy()
rise = np.where(coarse.mask[0, 0], h / n[2].clip(wrinkles.MIN_FACING), 0)
rise_y, rise_x = np.gradient(rise, mm[400].item())  # rows go down, y goes up
bent = n + n[2] * np.stack([-rise_x, rise_y, np.zeros_like(rise)])

# %% tags=["check"]
fine = {k: wrinkles.displace(c.depth, c.normals, c.mask, h, mm[k])
        for k, (c, h) in surfaces.items()}  # fmt: skip
inner = losses.five_point_interior(coarse.mask)[0, 0]
bent = bent / np.linalg.norm(bent, axis=0).clip(1e-6)
error = np.abs(bent - fine[400].normals[0].numpy())[:, inner].max()
print(f"largest difference {error:.1e}; relief {h.min():.2f} to {h.max():.2f} mm")
assert error < 1e-4, f"normals: {error:.1e}, not below 1e-4"
error = np.abs(z + rise - fine[400].depth[0, 0].numpy()).max()
assert error < 1e-3, f"depth: {error:.1e} mm, not below 1e-3"
turned = np.abs(bent - n)[:, inner].max()
assert turned > 0.1, f"wrinkles turn normals by {turned:.3f}, above 0.1 expected"

# %% tags=["check"]
# On a plane with a wave, where we know the normal; errors go with squared width.
plane = torch.nn.functional.normalize(torch.tensor([-0.3, 0.2, 1.0]), dim=0)
errors = {}
for pixels in (200, 400):
    width = torch.tensor([200.0 / pixels])
    x = ((torch.arange(pixels) - pixels / 2) * width).expand(1, 1, pixels, pixels)
    wave = 0.3 * torch.sin(2 * np.pi * x / 16)  # mm, every 16 mm
    slope = 0.3 * 2 * np.pi / 16 * torch.cos(2 * np.pi * x / 16)
    flat = plane[None, :, None, None].expand(1, 3, pixels, pixels)
    found = wrinkles.displace(0 * x, flat, x == x, wave, width).normals
    bent = torch.cat([flat[:, :1] - slope, flat[:, 1:]], dim=1)
    exact = torch.nn.functional.normalize(bent, dim=1)
    errors[pixels] = (found - exact)[..., 1:-1].abs().max().item()
ratio = errors[200] / errors[400]
assert 3.5 < ratio < 4.5, f"{errors}: {ratio:.2f} times, about 4 expected"

# %%
panels, titles = [], []
for k, (coarse, h) in surfaces.items():
    part = slice(int(0.12 * k), int(0.87 * k))
    for title, each in (("smooth", coarse.normals), ("wrinkled", fine[k].normals)):
        face = torch.where(coarse.mask, each, torch.nan)[0].permute(1, 2, 0)
        panels.append(viz.shaded(face[part, part].numpy()))
        titles.append(f"{title}, {k} pixels")
    if k == 200:
        relief_map = torch.where(coarse.mask, 0.5 + 0.5 * h, 1.0)[0, 0]
        panels.append(relief_map[part, part].numpy())
        titles.append("height, -1 to 1 mm")
figure = viz.gallery(panels, titles, columns=5, inches=2)
figure.savefig(output / "wrinkles.png", dpi=80)
figure

# %% [markdown]
# ## 6 All layers, and what surrounds a face
#
# The morphable model ends at the forehead and the throat, photographs do not: around
# the face come a skull, a neck, clothes, hair, a background. None of it is labeled. It
# casts no shadow (hair merely dims the skin that it touches), but it changes the pixels
# around the face, and hair covers what the label knows. Below, a photograph in the
# making. `studio.turned` gives a world that differs in single knobs: with the same seed
# it photographs the same person.

# %%
still = {"light": {"p_shadow": 1.0, "p_key": 1.0, "key": (base.light.key[1],) * 2}}
still |= {"scene": {"p_occluder": 0.0}, "skin": {"tone": 0.4 * base.skin.tone}}
neutral = {"camera": studio.NEUTRAL_CAMERA}
made = []
for knobs in ({"hair": {"surround": False}, **neutral}, neutral, {}):
    turned = studio.turned(world, **still, **knobs)
    made.append(turned.render(1, turned.generator(seed + 4), one, color=True))
face, mask = made[2], made[2].rendering.mask
layers = {"albedo": face.albedo, "light": 0.7 * face.shading, "shadow": face.shadow}
layers |= {"normals": 0.5 + 0.5 * face.fine_normals, "lit, glossy": made[0].image}
panels = [torch.where(mask, layer, 1.0) for layer in layers.values()]
panels = [pictures(each)[0] for each in (*panels, *(each.image for each in made))]
figure = viz.gallery(panels, [*layers, "background", "person", "camera"], 4, 1.9)
figure.savefig(output / "layers.png", dpi=75)
figure

# %% [markdown]
# ## 7 The camera
#
# Eq. (2) is *weak* perspective. A pinhole at the distance $d$ sees near things larger:
# $$(x, y) \mapsto \frac{d}{d - z}\,(x, y).$$
# Many of ours are taken so (`p_perspective`), from arm's length to portrait lens. What
# does $r_{gt}$ mean then? Its coefficients stay exactly those of the face. Its pose is
# that of the weak-perspective camera which agrees with the pinhole in the plane $z =
# 0$: the network has to learn that large noses may be near noses. The error of taking
# the one camera for the other falls as $1/d$.

# %%
alpha, pose = camera.split(one)
head = camera.to_camera(model.vertices(alpha), pose)
weak = camera.to_pixels(head, pose, size)
panels, disagreement = {}, {}
for d in (350.0, 600.0, 1200.0, 2400.0):
    pinhole = head.clone()
    pinhole[..., :2] *= d / (d - head[..., 2:])
    seen = camera.to_pixels(pinhole, pose, size)
    moved = (seen - weak)[0, model.landmarks, :2].norm(dim=1)
    disagreement[d] = moved.mean().item()
    fixed = {"p_perspective": 1.0, "distance": (d, d)}
    turned = studio.turned(world, **still, camera=studio.NEUTRAL_CAMERA, pose=fixed)
    face = turned.render(1, turned.generator(seed + 4), one, color=True)
    panels[f"{d / 10:.0f} cm: {disagreement[d]:.1f} px"] = pictures(face.image)[0]
viz.gallery(list(panels.values()), list(panels), 4, inches=2)

# %% tags=["check"]
distance = torch.tensor([d])
error = (pinhole - camera.in_perspective(head, distance)).abs().max()
assert error < 1e-3, f"{error:.1e} pixels, not below 1e-3"
products = [distance * error for distance, error in disagreement.items()]
print("landmarks move, on average, by", end=" ")
print(", ".join(f"{e:.2f} pixels ({d:.0f} mm)" for d, e in disagreement.items()))
low, high = min(products), max(products)
assert high < 1.25 * low, f"not 1 / d: products from {low:.0f} to {high:.0f}"
changed = (pinhole[..., 2] != head[..., 2]).sum() + (face.r != one).sum()
assert changed == 0, f"{changed} depths and labels changed, 0 expected"

# %%
c = base.camera
extremes = {  # of lens, sensor and file
    "neutral": {},
    "tone curve": {"gamma": (c.gamma[0],) * 2, "contrast": (c.contrast[1],) * 2},
    "blur": {"p_blur": 1.0, "blur": (c.blur[1],) * 2},
    "sharpening": {"p_sharpen": 1.0, "sharpen": (c.sharpen[1],) * 2},
    "noise": {"p_noise": 1.0, "photon_noise": (c.photon_noise[1],) * 2},
    "JPEG": {"p_jpeg": 1.0, "quality": (c.quality[0],) * 2},
}
panels = []
for knob in extremes.values():
    turned = studio.turned(world, **still, camera=studio.NEUTRAL_CAMERA | knob)
    face = turned.render(1, turned.generator(seed + 4), one, color=True)
    panels.append(pictures(face.image[..., 50:120, 60:130])[0])
viz.gallery(panels, list(extremes), columns=6, inches=1.6)

# %% [markdown]
# ## 8 Move the knobs yourself
#
# The button opens a live photograph with sliders. Below it, for readers without a
# kernel: each row moves one slider from end to end; the first row is without cast
# shadows, all others are with them.

# %%
booth = studio.Studio(world, smile, seed + 4)
button, place = widgets.Button(description="open the studio"), widgets.VBox()
button.on_click(lambda _: setattr(place, "children", [booth.live()]))
rows = ["lamp right °", *(name for name in booth.sliders if name != "shadow")]
panels, titles = [], []
for row, name in enumerate(rows):
    slider, booth.sliders["shadow"].value = booth.sliders[name], float(row > 0)
    for value in np.linspace(slider.min, slider.max, 6):
        slider.value = value
        panels.append(booth.picture() / 255)
        titles.append(f"{name} {value:.3g}")
    booth.reset()
figure = viz.gallery(panels, titles, columns=6, inches=1.4)
figure.savefig(output / "sliders.jpg", dpi=85, pil_kwargs={"quality": 75})
display(widgets.VBox([button, place]), figure)

# %% [markdown]
# ## 9 What CoarseNet is shown
#
# At test time CoarseNet sees its own last answer. In training, this "process is then
# simulated by drawing another set of parameters, $r_t$, which is sampled between
# $r_{gt}$ and a random set of parameters, $r_{rnd}$,
# $$r_t = \beta \cdot r_{gt} + (1 - \beta) \cdot r_{rnd}, \quad 0 \le \beta \le 1.
# \qquad (3)$$
# [...] Note, that unlike [34] our representation $r$ captures not only the geometry,
# but also the pose." Test time begins at $r_0 = 0$, so some training rows do, too. And
# "the input image is always masked in accordance with the visible vertices in the
# feedback channel" (3.4): the network sees only what the current estimate covers.

# %%
faces = world.render(8, world.generator(seed + 1))
turn = int(faces.r[:, -5].argmax())  # farthest to the right; r_rnd to the left
others = world.sample(8, world.generator(seed + 2))
r_gt, r_rnd = faces.r[[turn]], others[[int(others[:, -5].argmin())]]
betas = torch.linspace(0, 1, 5)[:, None]
r_t = synthetic.intermediate(r_gt.expand(5, -1), r_rnd.expand(5, -1), betas)
r_t = torch.cat([r_t, torch.zeros_like(r_gt)])  # the zero start
image, maps = faces.image[[turn]].expand(6, -1, -1, -1), render.render(model, r_t, size)
grey = image.expand(-1, 3, -1, -1)
shown = [grey, maps.pncc, 0.5 + 0.5 * maps.normals]
shown = [grey, *(torch.where(maps.mask, each, 1.0) for each in shown)]
titles = [f"β = {beta:.2f}" for beta in betas[:, 0]] + ["zero start"]
figure = viz.gallery(pictures(torch.cat(shown)), titles, columns=6, inches=1.5)
figure.savefig(output / "feedback.png", dpi=70)
figure

# %% tags=["check"]
for row, b in zip(r_t, (0.0, 0.25, 0.5, 0.75, 1.0), strict=False):
    by_hand = [b * t + (1 - b) * c for t, c in zip(r_gt[0], r_rnd[0], strict=True)]
    off = (row - torch.stack(by_hand)).abs().max()
    assert off < 1e-5, f"off by {off:.1e}, not below 1e-5"
seven = coarsenet.coarse_input(image, maps)
assert seven.shape == (6, 7, size, size), f"{seven.shape}, not 6 times 7 maps"
elsewhere = torch.where(maps.mask, image, torch.rand_like(image))
seen = (coarsenet.coarse_input(elsewhere, maps) - seven).abs().max()
assert seen == 0, f"what is outside of the mask shows by {seen:.1e}, 0 expected"

# %% tags=["check"]
many = world.sample(2000, generator)
start = world.feedback(many, generator, p_zero_start=0.25)
zero = (start == 0).all(dim=1)
slope = (start * many)[~zero].sum() / many[~zero].square().sum()
at_zero = zero.float().mean()
print(f"{at_zero:.3f} start at zero; mean of β about {slope:.3f}")
assert abs(at_zero - 0.25) < 0.04, f"{at_zero:.3f} start at zero, not 0.25 ± 0.04"
assert abs(slope - 0.5) < 0.05, f"mean of β {slope:.3f}, not 0.50 ± 0.05"

# %% [markdown]
# ## 10 How close to real photographs?
#
# Looking is not enough. `facerecon data report --photos FOLDER --out FOLDER` measures
# grey levels, edges, noise, spectra and light on the face crops of a folder of
# photographs and on as many samples *in the same poses*, tests each number for a
# difference, trains a classifier on all of them (AUC 0.5: it cannot tell; 1: always),
# and does the same with halves of the photographs, which shows what chance alone does.
# Try it on a folder of yours: 32 faces are the least, hundreds are better. Here we have
# **two** photographs. Two are no distribution and test nothing. They can only show how
# to read the numbers, and where a portrait lies far outside of all samples.

# %%
with TemporaryDirectory() as folder:
    plt.imsave(Path(folder) / "astronaut.png", skimage.data.astronaut())
    grace_hopper = plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False))
    plt.imsave(Path(folder) / "grace_hopper.png", grace_hopper)
    network = weights.load_coarsenet()
    photos = data_report.photo_crops(Path(folder), 2, seed, model, network, quiet=True)
count = {"quick": 48, "full": 240}[preset]
rendered = data_report.synthetic_crops(world, count, photos.poses, seed)
ours = image_statistics.image_statistics(rendered)
theirs = image_statistics.image_statistics(photos.images)
names = [name for name in ours if not name.startswith("crop")]
middle, spread = ({n: f(ours[n]) for n in names} for f in (np.median, np.std))
z = {n: (theirs[n] - middle[n]) / spread[n] for n in names}
viz.gallery([*photos.images, *rendered[:8]], ["photograph"] * 2 + ["rendered"] * 8, 10)

# %%
figure, axis = plt.subplots(figsize=(8, 6), layout="constrained")
for row, name in enumerate(names):
    samples = (ours[name] - middle[name]) / spread[name]
    axis.plot(samples, np.full(count, row), "|", color="#d1701f", alpha=0.4)
for i, label in enumerate(["astronaut", "Grace Hopper"][: len(photos.images)]):
    values = [z[name][i] for name in names]
    axis.plot(values, range(len(names)), "os"[i], color="#3b6fb6", label=label)
axis.set_yticks(range(len(names)), names, fontsize=8)
axis.set(xlim=(-5, 5), xlabel="standard deviations of the samples from their median")
axis.legend(loc="upper right")
figure.savefig(output / "statistics.png", dpi=70)
plt.show()
ends = {n: (ours[n].min(), ours[n].max()) for n in names}
outside = [n for n in names if np.any(theirs[n] != theirs[n].clip(*ends[n]))]
print("a portrait lies outside of all samples in:", ", ".join(outside) or "nothing")

# %%
# One knob, one statistic: what the report's numbers react to. Same people each time.
blurs, noises = (0.4, 0.8, 1.6, 3.2), (0.005, 0.01, 0.02, 0.04)
responses = {"face_laplacian": [], "face_noise": []}
for blur, noise in zip(blurs, noises, strict=True):
    for name, knob in {
        "face_laplacian": {"p_blur": 1.0, "blur": (blur, blur)},
        "face_noise": {"p_noise": 1.0, "read_noise": (noise, noise)},
    }.items():
        turned = studio.turned(world, camera=studio.NEUTRAL_CAMERA | knob)
        images = turned.render(8, turned.generator(seed)).image[:, 0].numpy()
        values = image_statistics.image_statistics(images)[name]
        responses[name].append(float(np.median(values)))

# %% tags=["check"]
sharp, noisy = (np.round(values, 4) for values in responses.values())
print(f"fine contrast {sharp} at blurs of {blurs}; noise {noisy} at {noises}")
assert (np.diff(sharp) < 0).all(), f"blur does not remove fine contrast: {sharp}"
assert (np.diff(noisy) > 0).all(), f"noise does not show as noise: {noisy}"

# %% [markdown]
# ## Exercises
#
# **1.** Write the state that a batch of faces starts training from: Eq. (3) with a
# $\beta$ of its own for each face, but zero where `starts` is true.


# %% tags=["exercise"]
def training_state(r_gt, r_rnd, beta, starts):
    """r_t (B, n) from r_gt and r_rnd (B, n), beta (B,), starts (B,) bool."""
    ### BEGIN SOLUTION
    r_t = beta[:, None] * r_gt + (1 - beta[:, None]) * r_rnd
    return torch.where(starts[:, None], 0.0, r_t)
    ### END SOLUTION


# %% tags=["check"]
noise = torch.Generator().manual_seed(0)
truth, chance = torch.randn(2, 4, 290, generator=noise)
b, starts = torch.tensor([0.0, 1.0, 0.25, 0.9]), torch.arange(4) == 3
answer = training_state(truth, chance, b, starts)
wanted = synthetic.intermediate(truth, chance, b[:, None])
error = (answer - wanted)[:3].abs().amax(dim=1)
print(f"largest differences {error.numpy()}; zero start {answer[3].abs().max():.2f}")
assert error.max() < 1e-6, f"largest differences {error}, not below 1e-6"
assert not answer[3].any(), f"a start at zero has {answer[3].abs().max():.2f}, not 0"

# %% [markdown]
# **2.** The mask of 3.4. Bring the grey values inside the mask to mean 0 and standard
# deviation 0.5, so that exposure does not matter, and set everything else to 0.


# %% tags=["exercise"]
def masked_grey(image, mask):
    """The network's first channel (H, W), from an image (H, W) and a mask (H, W)."""
    ### BEGIN SOLUTION
    values = image[mask]
    scaled = 0.5 * (image - values.mean()) / values.std(correction=0)
    return torch.where(mask, scaled, 0.0)
    ### END SOLUTION


# %% tags=["check"]
example = MorphableModel.default()
maps = render.render(example, torch.zeros(1, 290), 64)
photo = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
photo[..., :10] = 5.0  # a lamp in the background
answer = masked_grey(photo[0, 0], maps.mask[0, 0])
wanted = coarsenet.coarse_input(photo, maps)[0, 0]
print(f"largest difference {(answer - wanted).abs().max():.1e}")
off = (answer - wanted).abs().max()
assert off < 1e-5, f"off by {off:.1e}, not below 1e-5"

# %% [markdown]
# **3.** A shadow map answers yes or no per texel, which makes stairs. Averaging the
# *depths* of neighboring texels invents surfaces that do not exist; average the
# *answers*. A point falls between four texels, whose depths (larger: nearer to the
# lamp) and bilinear weights are given. It is lit by a texel unless that lies more than
# `bias` in front of it.


# %% tags=["exercise"]
def lit_share(depths, shares, point, bias):
    """How much light (P,) reaches points of depth (P,) past texels (P, 4)."""
    ### BEGIN SOLUTION
    lit = depths - point[:, None] <= bias
    return (shares * lit).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
depths = torch.tensor([[0.0, 0, 30, 30], [0, 0, 0, 0], [9, 9, 9, 9], [1, 1, 1, 3]])
shares = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(4, -1)
answer = lit_share(depths, shares, torch.tensor([0.0, 20, 0, 0]), bias=2.0)
wanted = torch.tensor([0.3, 1.0, 0.0, 0.6])
print(f"answer {answer.numpy().round(2)}, expected {wanted.numpy()}")
assert torch.allclose(answer, wanted), f"{answer}, expected {wanted}"

# %% [markdown]
# **4.** Light comes in photons. A pixel of intensity 1 collects `full` electrons on
# average, one of intensity $I$ collects $I$ times as many; the number is Poisson (as
# `torch.poisson` samples it), and reading it out adds normal noise of `read` electrons.
# Return the noisy intensities.


# %% tags=["exercise"]
def sensor(image, full, read, generator):
    """The image (any shape, in [0, 1]) as a noisy sensor reads it, not clipped."""
    ### BEGIN SOLUTION
    electrons = torch.poisson(image * full, generator=generator)
    noise = read * torch.randn(image.shape, generator=generator)
    return (electrons + noise) / full
    ### END SOLUTION


# %% tags=["check"]
noise = torch.Generator().manual_seed(0)
for intensity in (0.1, 0.9):
    shot = sensor(torch.full((200, 500), intensity), 400.0, 10.0, noise)
    mean, variance = shot.mean().item(), shot.var().item()
    wanted = intensity / 400 + (10 / 400) ** 2  # of Poisson I / full, of reading
    print(f"mean {mean:.4f} ({intensity}), variance {variance:.2e} ({wanted:.2e})")
    assert abs(mean - intensity) < 1e-3, f"mean {mean:.4f}, expected {intensity}"
    off = abs(variance / wanted - 1)  # of 100,000 pixels: 0.5 % uncertain
    assert off < 0.03, f"variance off by {off:.1%}, not below 3 %"

# %% [markdown]
# ## What we did not reproduce
#
# - **The paper's generator.** Its geometry comes from Bosphorus scans, and its renderer
#   and the ranges of "random texture, lighting and reflectance" are not published.
#   Every range here is ours.
# - **Its simplicity.** The paper mentions neither wrinkles, cast shadows, hair nor a
#   pinhole camera. We added what the report of section 10 or photographs called for.
# - **Likeness.** These are no photographs, and the report of section 10 measures how
#   easily a classifier finds out. Skin is no measured reflectance, light does not enter
#   it, and hair is a textured shell.

# %% [markdown]
# ## Review questions
#
# 1. Why not label photographs with an existing reconstruction method?
# 2. Which of the layers of section 6 change $r_{gt}$?
# 3. A network is trained with β = 1 only. What does it learn, and how does it fail?
# 4. Why must $r_{rnd}$ have a random pose, too?
# 5. Why does the depth rise by $h / n_z$ and not by $h\,n_z$?
# 6. A selfie and a portrait of one person: what in $r_{gt}$ differs?
# 7. What would the network see in iteration 1 without a mask, and what with it?
# 8. A classifier tells your synthetic photographs from real ones with AUC 1. Is the
#    training data useless?

# %% tags=["record"]
record = repro.Recorder(output, preset, seed)
for name, rate in rates.items():
    record.timing(f"photograph/{name}", 1 / rate)
record("skin_colour_variance_shares", share.round(5))
record("rays_agree_with_shadow_map", (dark == map_dark).float().mean().item())
record("displacement_error_200_400", list(errors.values()))
record("perspective_landmark_px", [round(e, 3) for e in disagreement.values()])
record("draws_compared_with_two_portraits", count)
record("portrait_outside_all_draws", outside)
print(record.path.read_text()[:600])

# %% [markdown]
# ## Further reading
#
# - E. Richardson, M. Sela, R. Kimmel. *3D face reconstruction by learning from
#   synthetic data.* 3DV 2016: [34], whose line of thought this is.
# - R. Ramamoorthi, P. Hanrahan. *An efficient representation for irradiance environment
#   maps.* SIGGRAPH 2001: why nine numbers of light suffice.
# - L. Williams. *Casting curved shadows on curved surfaces.* SIGGRAPH 1978: the map.
#   W. Reeves et al. *Rendering antialiased shadows with depth maps.* SIGGRAPH 1987.
# - B. Walter et al. *Microfacet models for refraction through rough surfaces.* EGSR
#   2007: GGX.
# - E. Wood et al. *Fake it till you make it: face analysis in the wild using synthetic
#   data alone.* ICCV 2021: how far this leads.
