"""Settings of the synthetic world, each with its range and its reason.

A pair (low, high) is a range sampled uniformly, per image. p_* are probabilities.
Lengths are mm at the size of the mean face; colors and intensities are as displayed, in [0, 1].
"""

from dataclasses import dataclass, field, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class PoseConfig:
    """Where the head is, as a face detector leaves it, and which camera projects it."""

    p_frontal: float = 0.5  # half of all photographs show people who look at the camera
    yaw_frontal_std: float = 0.25  # rad, that half
    yaw_limit: float = 1.2  # rad, the other half is uniform in +-yaw_limit; beyond, half is hidden
    pitch_std: float = 0.22  # rad
    pitch_limit: float = 0.55
    roll_std: float = 0.18  # rad
    roll_limit: float = 0.55
    shift_std: float = 0.04  # crop widths: what a face detector leaves
    shift_limit: float = 0.18
    log_scale_mean: float = -0.02
    log_scale_std: float = 0.11
    log_scale_limit: float = 0.45
    p_perspective: float = 0.5  # the rest: weak perspective, Eq. (2)
    distance: Range = (350.0, 2500.0)  # mm, log-uniform: arm's length selfie to portrait lens


@dataclass(frozen=True)
class SkinConfig:
    """Reflectance of skin, lips, eyes, mouth and of the hair that grows on the face."""

    linear: bool = (
        False  # albedo of the linear model, Eq. (10), which has eyes and mouth painted on
    )
    tone: float = 1.7  # melanin of the darkest skin (palest: 0), see `skin`
    tone_power: float = 1.3  # > 1: more light skin than dark, since the display scale is not linear
    mottling: Range = (0.0, 0.10)  # relative spread of melanin over the face
    blush: Range = (0.03, 0.24)  # hemoglobin everywhere
    cheek_blush: Range = (0.0, 0.8)  # more of it on the cheeks, relative
    nose_blush: Range = (0.0, 0.6)
    p_freckles: float = 0.3
    freckles: Range = (0.05, 0.35)  # melanin
    around_eyes: Range = (0.05, 0.55)  # melanin: the skin there is darker in many people
    lip_blood: Range = (0.1, 0.9)  # up to lipstick
    lip_melanin: Range = (0.0, 0.30)
    cavity: Range = (0.1, 0.65)  # darkness of folds beyond what the light model gives
    eyelid_shade: Range = (0.2, 0.7)  # make-up and tired lids
    dark_hair: float = 0.7  # share of people; world population
    p_grey: float = 0.5  # of the old
    brow_strength: Range = (0.45, 1.15)  # plucked or pale to bushy
    brow_shade: Range = (0.35, 0.8)  # of the hair's color: brows are darker than the hair
    brow_thickness: Range = (2.4, 5.5)  # half height
    p_beard: float = 0.28
    beard_strength: Range = (0.05, 0.9)  # stubble to full
    p_moustache: float = 0.22
    moustache_strength: Range = (0.1, 0.85)
    lash_strength: Range = (0.6, 1.0)
    strand_contrast: Range = (0.1, 0.28)  # how far brow and beard break up into hairs
    p_glasses: float = 0.10
    frame_width: Range = (0.6, 2.2)  # wire to plastic
    lens_tint: Range = (0.0, 0.12)
    p_sunglasses: float = 0.12  # of the glasses
    iris_radius: Range = (5.4, 6.2)  # anatomy: 11 to 12 mm across
    pupil_radius: Range = (1.2, 2.6)
    gaze: Range = (-3.0, 3.0)  # sideways movement of the iris
    sclera: Range = (0.35, 0.7)  # never as white as paper
    teeth: Range = (0.55, 0.9)


@dataclass(frozen=True)
class DetailConfig:
    """What is finer than the mesh: wrinkles (real displacement) and skin texture."""

    wrinkles: bool = True  # False: fine depth and normals are the coarse ones
    texture: bool = True
    variants: int = 6  # maps per kind of wrinkle in the bank; mixed differently for every face
    n_textures: int = 16  # of the bank of fine reflectance
    age_strength: Range = (0.0, 1.0)  # share of the deepest lines, of the oldest face
    youth_strength: Range = (0.0, 0.3)  # the same, of the youngest
    expression_strength: Range = (0.4, 1.2)  # lines that a full expression folds
    pores: Range = (0.0, 1.0)  # share of the deepest pores (0.05 mm)
    texture_strength: Range = (0.3, 1.1)  # of the bank's deviations: smooth make-up to rough skin
    p_photographed: float = 0.5  # wear a texture of the bank of photographs, where there is one
    photographed_contrast: Range = (0.6, 1.1)  # of its deviations from the bare skin's color
    photographed_hue: float = 0.03  # log intensity, each channel against the others
    seed: int = 0  # of the banks

    def texels(self, size: int) -> int:
        """Side of the textures for images of this size: about as fine as the pixels."""
        return 256 if size <= 256 else 512


@dataclass(frozen=True)
class HairConfig:
    """Hair as a second surface around the skull, hats, and neck and shoulders."""

    surround: bool = True  # False: nothing but the face before a background
    p_bald: float = 0.04
    p_receding: float = 0.14  # of short hair
    p_cropped: float = 0.3  # of short hair: a few mm
    p_tied: float = 0.12  # back from the face
    p_curly: float = 0.22
    p_hat: float = 0.04
    p_scarf: float = 0.03  # or hood
    hairline: Range = (48.0, 76.0)  # above the middle of the eyes
    recess: Range = (-4.0, 14.0)  # of the hairline beside its middle
    part: Range = (-12.0, 12.0)  # slant of the hairline
    p_fringe: float = 0.22
    fringe: Range = (10.0, 44.0)  # the same, of a fringe
    p_long: float = 0.4  # falls beside the face and behind the neck
    long_end: Range = (-220.0, -50.0)
    short_end: Range = (-45.0, 12.0)  # sideburns
    temple: Range = (54.0, 82.0)  # degrees from the front at which side hair begins
    thickness: Range = (4.0, 38.0)  # beyond the skull; afro and volume at the upper end
    strand_contrast: Range = (0.12, 0.4)
    gloss: Range = (0.0, 0.35)
    p_clothes: float = 0.85  # else bare shoulders


@dataclass(frozen=True)
class LightConfig:
    """An environment (second-order spherical harmonics), a key and a fill lamp."""

    ambient: Range = (0.14, 0.5)
    sky: Range = (0.0, 0.35)  # more light from above: sky, ceiling
    environment_std: float = 0.13  # the other first-order terms
    second_order_std: float = 0.07
    p_key: float = 0.9
    key: Range = (0.25, 1.0)
    key_azimuth: Range = (-1.5, 1.5)  # rad, 0: from the camera
    key_elevation: Range = (-0.1, 1.2)  # rad; lamps and windows are above the eyes more often
    p_fill: float = 0.5
    fill: Range = (0.05, 0.5)
    fill_azimuth: Range = (-2.2, 2.2)
    fill_elevation: Range = (-0.8, 1.2)
    p_shadow: float = 0.6  # the key lamp casts shadows
    shadow_texels: int = 160  # side of the shadow map
    shadow_bias: float = 2.0  # mm, against a surface shadowing itself
    shadow_offset: float = 2.5  # mm along the normal, the same for grazing light
    shadow_softness: Range = (0.5, 3.0)  # mm of depth over which a shadow fades in
    occlusion: Range = (1.0, 1.5)  # of the ambient occlusion; > 1: what the mesh is too smooth for
    p_specular: float = 0.8
    p_ggx: float = 0.5  # else Blinn-Phong
    specular: Range = (0.03, 0.28)
    roughness: Range = (0.32, 0.6)  # GGX; skin measures about 0.3 to 0.5
    shininess: Range = (5.0, 40.0)  # Blinn-Phong exponent
    t_zone: Range = (0.0, 1.2)  # additional oil on forehead and nose
    tint_std: float = 0.05  # of red and blue in the color of each light


@dataclass(frozen=True)
class SceneConfig:
    """What is behind and in front of the person."""

    level: Range = (0.03, 0.8)  # mean of the background
    level_power: float = 1.4  # > 1: more dark ones than bright; people stand out from the room
    p_plain: float = 0.3  # studio: one soft gradient
    contrast: Range = (0.4, 1.2)
    p_bokeh: float = 0.25  # bright discs out of focus
    saturation: Range = (0.0, 0.4)
    p_occluder: float = 0.08  # hand, microphone, cup
    occluder: Range = (0.06, 0.30)  # half its length, in crops


@dataclass(frozen=True)
class SurroundingsConfig:
    """What takes the usual surroundings away from some faces, so that a network does without.

    All off by default: most uses want people as photographs show them. They take random numbers of
    their own, so that the photographs are otherwise the same with and without.
    """

    p_alone: float = 0.0  # the face cut out, before the background: scans, stickers, masks
    p_cast: float = 0.0  # one albedo everywhere: plaster, marble, scans without texture
    p_slipped: float = 0.0  # skin textures shifted by some mm: they say less about the shape
    p_backdrop: float = 0.0  # black, white or even grey behind the person, some with noise
    body_turn: Range = (0.35, 0.35)  # share of the head's angles that the shoulders follow


@dataclass(frozen=True)
class CameraConfig:
    """From light to file."""

    p_auto_exposure: float = 0.9
    exposure: Range = (0.32, 0.58)  # mean intensity of the face that auto-exposure aims at
    adaptation: Range = (0.5, 1.0)  # how far it goes: it sees the scene, not the face alone
    gamma: Range = (0.7, 1.15)  # tone curve
    contrast: Range = (0.9, 1.2)
    brightness: Range = (-0.02, 0.05)
    saturation: Range = (0.5, 0.9)  # of colors
    p_vignette: float = 0.25
    vignette: Range = (0.05, 0.35)  # loss in the corners
    lens: bool = True  # False: not even the blur that every lens has
    p_blur: float = 0.6
    blur: Range = (0.5, 1.2)  # pixels of a 200-pixel crop, standard deviation
    p_motion: float = 0.15  # blur of another width along rows
    p_low_resolution: float = 0.12
    resolution: Range = (0.25, 0.7)  # of the crop
    clarity: Range = (0.0, 0.5)  # local contrast, which phones and retouching raise
    p_sharpen: float = 0.3  # phones do
    sharpen: Range = (0.2, 1.0)
    p_noise: float = 0.9
    read_noise: Range = (0.0, 0.003)
    photon_noise: Range = (0.0, 0.006)
    p_jpeg: float = 0.5
    quality: Range = (25.0, 92.0)


@dataclass(frozen=True)
class SyntheticConfig:
    """The distribution of the synthetic photographs (3.2.2)."""

    size: int = 200  # pixels of the square crop (3.4)
    identity_std: float = 1.0  # of the model's own spread, which was matched to real heads
    expression_scale: float = 0.8  # the same, for expressions
    p_strong: float = 0.0  # share with one of the expressions below at nearly full strength, too
    strong: tuple[str, ...] = ("eyeBlink", "jawOpen", "mouthPucker", "mouthFunnel", "cheekPuff")
    pose: PoseConfig = field(default_factory=PoseConfig)
    skin: SkinConfig = field(default_factory=SkinConfig)
    detail: DetailConfig = field(default_factory=DetailConfig)
    hair: HairConfig = field(default_factory=HairConfig)
    light: LightConfig = field(default_factory=LightConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)

    def plain(self) -> "SyntheticConfig":
        """The fast variant: a face with the linear model's albedo, lit, before a soft gradient.

        No displacement, fine texture, cast shadows, hair, glasses or occluders; of the camera,
        exposure, tone and noise.
        """
        return replace(
            self,
            skin=replace(self.skin, linear=True),
            hair=replace(self.hair, surround=False),
            detail=replace(self.detail, wrinkles=False, texture=False),
            light=replace(self.light, p_shadow=0.0),
            scene=replace(self.scene, p_plain=1.0, p_bokeh=0.0, p_occluder=0.0),
            camera=replace(
                self.camera, lens=False, clarity=(0.0, 0.0), p_vignette=0.0,
                p_low_resolution=0.0, p_sharpen=0.0, p_jpeg=0.0,
            ),
        )  # fmt: skip
