"""Every hyperparameter of training as frozen dataclasses, and presets that name sets of them."""

from dataclasses import dataclass, field

from facerecon.coarsenet import CoarseNetConfig
from facerecon.finenet import FineNetConfig
from facerecon.losses import CriterionWeights, LinearWeights
from facerecon.normalnet import NormalNetConfig
from facerecon.sfs import DetailBounds
from facerecon.shading_refinement import ShadingRefinement
from facerecon.synthetic.config import (
    HairConfig,
    PoseConfig,
    SurroundingsConfig,
    SyntheticConfig,
)


@dataclass(frozen=True)
class TrainingConfig:
    """What every training has; the engine reads nothing else."""

    learning_rate: float = 1e-3
    warmup: float = 0.02  # share of the samples
    cooldown: float = 0.3  # share of the samples over which the rate falls to zero
    weight_decay: float = 0.02
    gradient_clip: float = 2.0
    ema_decay: float = 0.99  # per step, of the weights that are evaluated and shipped
    bfloat16: bool = True  # of the forward pass, where the processor computes in it
    validation_every: int = 0  # samples; 0: at the end alone
    checkpoint_every: int = 120  # seconds
    seed: int = 0


# Every third face lacks hair, ears, neck or a room behind it, and shoulders say nothing: a network
# that leans on them turns cut-out and bald heads too little.
SPARSE_WORLD = SyntheticConfig(
    p_strong=0.2,
    pose=PoseConfig(p_frontal=0.35),  # a prior of few turned heads pulls estimates to the front
    hair=HairConfig(p_bald=0.12, p_scarf=0.05),
    surroundings=SurroundingsConfig(
        p_alone=0.18, p_cast=0.03, p_slipped=0.06, p_backdrop=0.18, body_turn=(0.0, 1.0)
    ),
)


@dataclass(frozen=True)
class CoarseTraining(TrainingConfig):
    """Supervised training on synthetic faces (3.2, 3.3)."""

    network: CoarseNetConfig = field(default_factory=CoarseNetConfig)
    data: SyntheticConfig = field(default_factory=SyntheticConfig)
    samples: int = 2_000_000  # rows: one image with one feedback estimate
    images_per_batch: int = 32  # of all processes together
    parts: int = 4  # of a batch, each rendered on its own; the number of processes divides it
    passes: int = 4  # uses of an image: first from r_t of Eq. (3), then from its own output
    beta: tuple[float, float] = (0.0, 1.0)  # range of Eq. (3)
    p_zero_start: float = 0.25  # share of first passes that start at r_0 = 0, as at test time
    learning_rate: float = 1.5e-3
    warmup: float = 0.01
    cooldown: float = 0.25
    ema_decay: float = 0.998
    vertex_loss: float = 1.0  # weight of the posed-vertex distance beside GMSE and pose MSE
    displacement_loss: float = 2.0  # weight of the displacements, and of their stated errors
    regression_loss: float = 0.5  # weight of the same criterion before the displacements are used
    identity_loss: float = 0.0  # weight of telling persons apart; > 0 shows everyone twice
    identity_width: float = 0.5  # mm within which two identities count as one person's
    validation_faces: int = 500
    validation_every: int = 50_000


# Crops that landmarks have aligned: what is left of shift and scale is the landmarks' error.
ALIGNED_POSE = PoseConfig(
    yaw_limit=0.8,
    shift_std=0.015,
    shift_limit=0.05,
    log_scale_mean=0.0,
    log_scale_std=0.05,
    log_scale_limit=0.15,
)


@dataclass(frozen=True)
class AlignedTraining(TrainingConfig):
    """Training of the compared network of Richardson et al. 2016 on synthetic faces."""

    network: CoarseNetConfig = field(default_factory=CoarseNetConfig)  # its body, without pose
    data: SyntheticConfig = field(default_factory=lambda: SyntheticConfig(pose=ALIGNED_POSE))
    samples: int = 100_000  # rows: one image with one rendering
    images_per_batch: int = 32
    passes: int = 4  # uses of an image, as in CoarseTraining
    p_zero_start: float = 0.25
    pitch_error: float = 0.12  # rad, of the pose that the landmarks give; standard deviations
    yaw_error: float = 0.08
    roll_error: float = 0.03
    learning_rate: float = 5e-4  # from CoarseNet's weights; from random ones, 2e-3
    cooldown: float = 0.5
    bfloat16: bool = False
    validation_faces: int = 100
    validation_every: int = 20_000


@dataclass(frozen=True)
class FineTraining(TrainingConfig):
    """Training on photographs (4.3), end to end (4.4), or with synthetic detail as supervision."""

    network: FineNetConfig = field(default_factory=FineNetConfig)
    crops: int = 5_000  # photo crops seen
    batch: int = 4
    crop_size: int = 128  # pixels cut from the face; the network is fully convolutional
    face_sizes: tuple[int, ...] = (200,)  # sizes to which the face crop is brought first
    weight_decay: float = 1e-4
    gradient_clip: float = 50.0  # Eq. (14) in 8-bit grey levels: the norm starts at 10 to 30
    ema_decay: float = 0.995
    criterion: str = "paper"  # of photographs: Eq. (14), or "linear" (losses.linear_finenet_loss)
    shading_weight: float = 1.0  # lambda_sh of Eq. (14)
    fidelity_weight: float = 5e-3  # lambda_f
    smoothness_weight: float = 1.0  # lambda_sm
    light_order: int = 2  # spherical harmonics of Eq. (9); the paper's 1 explains lamps less well
    detail_radius: float = 0.015  # of the crop; slower changes of brightness are light, not shape
    detail_limit: float = 0.08  # intensity; larger leftovers are taken for albedo or highlights
    edge_contrast: float = 0.05  # relative; nearer to the coarse face's own edges: misalignment
    supervised_share: float = 0.5  # of the batches, where photographs and synthetic detail are used
    windows_per_face: int = 4  # of each synthetic face, whose rendering takes as long as a step
    normal_weight: float = 10.0  # of the angle to the true normals in degrees, synthetic detail
    squared_normal_weight: float = 1.0  # of the square of that angle
    depth_weight: float = 1e3  # of the squared depth error in pixels, synthetic detail
    gradient_cutoff: float = 0.2  # rad per pixel, of Eq. (14)'s Sobolev gradient; 0: the plain one
    iterations: int = 4  # CoarseNet iterations (4.4)
    coarse_learning_rate: float = 0.0  # > 0 trains CoarseNet through the rendering layer
    coarse_fidelity_weight: float = 1e3  # of the MSE to the original r, beside grey levels squared

    @property
    def linear_weights(self) -> LinearWeights:
        """Those of the direct solution of the linear criterion."""
        settings = ShadingRefinement()
        return LinearWeights(settings.smoothness, settings.fidelity, settings.anchor)

    @property
    def criterion_weights(self) -> CriterionWeights:
        """The lambdas of Eq. (14)."""
        return CriterionWeights(self.shading_weight, self.fidelity_weight, self.smoothness_weight)

    @property
    def detail_bounds(self) -> DetailBounds:
        """Which part of a photograph detail may explain."""
        return DetailBounds(self.detail_radius, self.detail_limit, self.edge_contrast)


@dataclass(frozen=True)
class NormalTraining(TrainingConfig):
    """Supervised training of NormalNet."""

    network: NormalNetConfig = field(default_factory=NormalNetConfig)
    samples: int = 300_000  # a face with a start
    batch: int = 8  # half of them new, half seen once before, from another start
    window: int = 160  # pixels of the photographs
    p_own: float = 0.3  # share that starts from CoarseNet's own answers
    p_strobe: float = 0.35  # share in the light of a single lamp
    p_large: float = 0.45  # share of crops of more than 200 pixels
    squared_weight: float = 4.0  # of 1 - cos of the angle, beside the angle in rad
    relief_weight: float = 0.2  # of the slopes' changes from pixel to pixel and over five pixels
    likelihood_weight: float = 0.05  # of the stated errors
    learning_rate: float = 2e-3
    warmup: float = 0.003
    weight_decay: float = 1e-3
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    validation_faces: int = 32
    validation_every: int = 5_000
    checkpoint_every: int = 60  # seconds


COARSE_PRESETS = {
    "quick": CoarseTraining(
        network=CoarseNetConfig(width=8),
        samples=2_000,
        images_per_batch=8,
        parts=2,
        validation_faces=16,
        validation_every=1_000,
    ),
    "cpu": CoarseTraining(data=SPARSE_WORLD, identity_loss=0.04),
    "paper": CoarseTraining(
        network=CoarseNetConfig(
            width=64, blocks=(2, 2, 2, 2), stem="resnet", points=0, both_sides=False
        ),
        samples=20_000_000,
        images_per_batch=128,
        parts=8,
        passes=1,
        vertex_loss=0.0,
        learning_rate=1e-3,
    ),
}

ALIGNED_PRESETS = {
    "quick": AlignedTraining(
        network=CoarseNetConfig(width=8), samples=1_000, images_per_batch=8, validation_faces=16
    ),
    "cpu": AlignedTraining(),
}

FINE_PRESETS = {
    "quick": FineTraining(network=FineNetConfig(width=8, regressor=(16, 8)), crops=32),
    "cpu": FineTraining(
        network=FineNetConfig(width=16, regressor=(32, 32)),
        criterion="linear",
        crops=100_000,
        batch=8,
        learning_rate=3e-3,
    ),
    "paper": FineTraining(crops=400_000, batch=16, crop_size=200),
}

END_TO_END_PRESETS = {
    "quick": FineTraining(
        network=FineNetConfig(width=8, regressor=(16, 8)), crops=16, coarse_learning_rate=1e-5
    ),
    "cpu": FineTraining(
        crops=2_000, crop_size=200, face_sizes=(200,), learning_rate=1e-4, coarse_learning_rate=1e-5
    ),
    "paper": FineTraining(
        crops=400_000,
        batch=16,
        crop_size=200,
        face_sizes=(200,),
        learning_rate=1e-4,
        coarse_learning_rate=1e-5,
    ),
}

NORMAL_PRESETS = {
    "quick": NormalTraining(
        network=NormalNetConfig(widths=(8, 16, 16)), samples=64, batch=4, validation_faces=4
    ),
    "cpu": NormalTraining(),
}
