# %% [markdown]
# # Figure 6: light and albedo
#
# > **The paper, section 4.3.1:** “Light and albedo recovery. Images are presented next
# > to the recovered albedo, rendered with the recovered lighting.”
#
# Ours: the photograph; the albedo of Eq. (12), ten numbers; and that albedo under the
# light of Eq. (11), four numbers, on the normals of the coarse depth. What to see: the
# right column has the photograph's light and dark, and none of its wrinkles: what is
# left over is what FineNet turns into shape. Below, two simulated subjects of
# facerecon-bench. As in training, the fit is robust and looks at skin below the brows:
# a fringe or a hat would else pass for darkness from above.
#
# The albedo model knows skin alone. Eyes and the mouth's inside are the photograph's:
# on the left divided by the light that was found, on the right as they are.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_06"
photos = []  # files to use instead of the portraits and the simulated subjects
coarse_weights = ""  # file of CoarseNet weights instead of those that ship

# %% tags=["imports"]
from pathlib import Path


from facerecon import Reconstructor, camera, depth, imaging, lighting, repro, sfs
from facerecon import weights
from facerecon.coarsenet import iterate
from facerecon.detection import detect
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.simulated_scans.cache import cached_photograph
from facerecon.views import viz
from facerecon.views.portraits import portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
reconstructor = Reconstructor.from_pretrained(coarse_file)
model, cache = reconstructor.model, repro.cache_folder()
images = {Path(file).stem: imaging.load_image(file) for file in photos} or portraits()
if not photos:
    for index in {"quick": (0, 3), "full": range(6)}[preset]:
        images[f"subject {index}"] = cached_photograph(cache, index, seed).scan.image


# %%
@torch.no_grad()
def explain(photo):
    """Grey crop; face; skin below the brows; albedo, its picture, and the light."""
    box = detect.detect_faces(photo)[0].crop_box()
    face, _ = imaging.crop(photo, box, 200)
    grey = torch.from_numpy(imaging.to_grey(face))[None, None]
    r = iterate(reconstructor.coarsenet, model, grey)[-1]
    shown = render(model, r, 200)
    pixel = 1 / camera.pose_parameters(camera.split(r)[1], 200).scale
    normals = depth.normals_from_depth(shown.depth, pixel, shown.mask)
    weight = model.skin()[None, :, None]
    skin = interpolate(weight, shown.fragments, model.triangles) > 0.5
    whole = viz.without_holes(skin[0, 0])
    brows = shown.projected[0, model.landmarks[17:27], 1].min() - 8 / pixel
    bare = skin & (torch.arange(200)[:, None] > brows)
    maps = sfs.albedo_maps(model, shown.fragments)
    found = sfs.robust_shading(grey, *maps, normals, bare)
    amount = found.albedo_coefficients[0][:, None, None]
    albedo = maps[0] + (amount * maps[1]).sum(1, keepdim=True)
    light = lighting.shade(torch.ones_like(grey), found.light, normals)
    albedo = torch.where(skin, albedo, grey / light.clamp(min=0.05)).clamp(0, 1)
    return grey, whole, bare, albedo, (albedo * light).clamp(0, 1), found.light[0]


# %%
pictures, explained, lights = [], {}, {}
for name, photo in images.items():
    grey, whole, bare, albedo, rendered, lights[name] = explain(photo)
    on_white = [torch.where(whole, albedo, 1.0), torch.where(whole, rendered, 1.0)]
    pictures += [picture[0, 0].numpy() for picture in (grey, *on_white)]
    usable = lighting.well_exposed(grey, bare)
    left = (rendered - grey)[usable].square().mean() / grey[usable].var()
    explained[name] = 1 - left.item()
titles = ["photograph", "albedo", "albedo × light"] * 2
figure = viz.gallery(pictures, titles, columns=6, inches=1.9)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# The share of the variance of the skin's grey values that light and albedo explain, and
# the light: ambient, from the right, from above, from the front.

# %% tags=["check"]
for name, share in explained.items():
    print(f"{name:14} {share:4.0%}", lights[name].numpy().round(2))
    front = lights[name][3]
    good = share > 0.05 or photos  # of your own nothing is asserted
    assert good, f"{name}: {share:.0%} explained, above 5 % expected"
    good = front > 0 or photos
    assert good, f"{name}: light from the front {front:.2f}, not above 0"

# %% tags=["record"]
people = "two portraits; simulated subjects of facerecon-bench"
record = repro.Recorder(output, preset, seed, weights=[coarse_file], data=people)
for name, share in explained.items():
    record(f"{name}/explained_variance", round(share, 3))
    record(f"{name}/light", lights[name].double().numpy().round(3))
low, high = min(explained.values()), max(explained.values())
text = f"light and albedo explain {low:.0%} to {high:.0%} of the skin's variance"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_06", output)
