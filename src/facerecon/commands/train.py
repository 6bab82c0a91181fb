"""The command `facerecon train`: starts or resumes a run and exports its weights."""

import argparse
import dataclasses
from pathlib import Path

import torch

from facerecon.backends.devices import find_device
from facerecon.commands.options import measure, natural, positive, share
from facerecon.commands.outcome import UsageError
from facerecon.files import require_writable
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.texture_bank import TextureBank
from facerecon.training.aligned import AlignedTask
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.fine import FineData, FineTask
from facerecon.training.normals import NormalTask
from facerecon.training.plan import describe
from facerecon.training.presets import (
    ALIGNED_PRESETS,
    COARSE_PRESETS,
    END_TO_END_PRESETS,
    FINE_PRESETS,
    NORMAL_PRESETS,
    TrainingConfig,
)
from facerecon.training.processes import Processes, joined
from facerecon.weights import ModelCard, load_coarsenet, load_finenet, load_normalnet, save_weights

PRESETS = {
    "coarse": COARSE_PRESETS,
    "fine": FINE_PRESETS,
    "end-to-end": END_TO_END_PRESETS,
    "normals": NORMAL_PRESETS,  # NormalNet, which is not the paper's
    "aligned": ALIGNED_PRESETS,  # the compared method of Richardson et al. 2016
}

ONLY_FOR = {
    "heads": ("coarse",),
    "textures": ("coarse",),
    "data": ("coarse",),
    "photos": ("fine", "end-to-end"),
    "supervised": ("fine",),
    "fine": ("fine", "end-to-end"),
    "vgg": ("fine", "end-to-end"),
    "normals": ("normals",),
}
"""The networks whose training uses an option that the others do not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `facerecon train`."""
    parser.add_argument("network", choices=list(PRESETS), help="what to train")
    parser.add_argument("--preset", default="cpu", help="quick, cpu or paper (default: cpu)")
    # torchrun would take --run for its own --run-path: hence the second name.
    parser.add_argument(
        "--run",
        "--folder",
        type=Path,
        help="folder of the run (default: runs/NETWORK-PRESET); under torchrun write --folder",
    )
    parser.add_argument(
        "--samples", type=positive, help="samples of the whole run instead of the preset's"
    )
    parser.add_argument(
        "--cooldown",
        type=share,
        help="share of the samples over which the learning rate falls to zero, at the end",
    )
    parser.add_argument(
        "--learning-rate",
        type=measure,
        help="peak of the learning rate instead of the preset's; lower for weights already trained",
    )
    parser.add_argument("--minutes", type=measure, help="stop, resumably, after this long")
    parser.add_argument("--seed", type=natural, help="seed instead of the preset's")
    parser.add_argument(
        "--device",
        default="cpu",
        help="torch device (default: cpu); under torchrun each process takes the GPU of its number",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        help="CPU threads; 1 wastes least on a machine that has other work",
    )
    parser.add_argument(
        "--model", type=Path, help="morphable model file (default: the one that ships)"
    )
    parser.add_argument(
        "--heads",
        type=Path,
        help="head model to validate on, too: ICT-FaceKit packed as .npz, or a model file (coarse)",
    )
    parser.add_argument(
        "--textures",
        type=Path,
        help="texture bank that data_scripts/make_texture_bank.py made; a share of the synthetic"
        " faces wears its skin (coarse)",
    )
    parser.add_argument("--photos", type=Path, help="folder of photographs (fine, end-to-end)")
    parser.add_argument(
        "--supervised",
        action="store_true",
        help="learn from synthetic faces with known detail: instead of photographs, or beside those"
        " of --photos (fine)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that `facerecon data write` made, to train on its faces (coarse; default:"
        " faces rendered during training)",
    )
    parser.add_argument(
        "--coarse",
        type=Path,
        help="CoarseNet weights (fine, normals, end-to-end: default shipped; coarse, aligned: a new"
        " run starts from them instead of random ones)",
    )
    parser.add_argument(
        "--fine",
        type=Path,
        help="FineNet weights to start from (end-to-end: default shipped; fine: instead of random"
        " ones)",
    )
    parser.add_argument("--normals", type=Path, help="NormalNet weights to start from (normals)")
    parser.add_argument(
        "--vgg", type=Path, help="VGG-Face or VGG-16 file to initialize FineNet from"
    )
    parser.add_argument(
        "--export", type=Path, help="write the averaged weights here (.safetensors)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan, with time and memory from a few measured steps; write nothing",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code.

    Raises:
        UsageError, ValueError, TrainingError, WeightsError: with one clear line, for the command
            line to print.
    """
    for name in ONLY_FOR:
        if getattr(args, name) and args.network not in ONLY_FOR[name]:
            raise UsageError(f"--{name} is for {' and '.join(ONLY_FOR[name])}, not {args.network}")
    presets = PRESETS[args.network]
    if args.preset not in presets:
        raise UsageError(f"--preset {args.preset}: unknown, choose from {', '.join(presets)}")
    config = presets[args.preset]
    if args.seed is not None:
        config = dataclasses.replace(config, seed=args.seed)
    if args.samples is not None:
        field = "samples" if hasattr(config, "samples") else "crops"
        config = dataclasses.replace(config, **{field: args.samples})
    if args.cooldown is not None:
        config = dataclasses.replace(config, cooldown=args.cooldown)
    if args.learning_rate is not None:
        config = dataclasses.replace(config, learning_rate=args.learning_rate)
    if args.threads:
        torch.set_num_threads(args.threads)
    with joined(find_device(args.device)) as (processes, device):
        return _train(args, config, processes, device)


def _train(
    args: argparse.Namespace, config: TrainingConfig, processes: Processes, device: torch.device
) -> int:
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    folder = args.run or Path("runs") / f"{args.network}-{args.preset}"
    if processes.first and not args.dry_run:
        require_writable(folder)
        if args.export:
            require_writable(args.export.parent)

    if args.network == "coarse":
        start = load_coarsenet(args.coarse) if args.coarse else None
        textures = TextureBank.load(args.textures, model) if args.textures else None
        task = CoarseTask(
            model,
            config,
            device,
            start=start,
            data=args.data,
            heads=args.heads,
            textures=textures,
            processes=processes,
        )
    elif args.network == "aligned":
        start = load_coarsenet(args.coarse) if args.coarse else None
        task = AlignedTask(model, config, device, start=start, processes=processes)
    elif args.network == "normals":
        if processes.count > 1:
            raise UsageError("facerecon train normals runs in one process, not under torchrun")
        begin = load_normalnet(args.normals) if args.normals else None
        task = NormalTask(model, load_coarsenet(args.coarse), config, device, start=begin)
    else:
        if args.photos is None and not args.supervised:
            raise UsageError(f"facerecon train {args.network} needs --photos FOLDER")
        start = load_finenet(args.fine) if args.fine or args.network == "end-to-end" else None
        coarsenet = load_coarsenet(args.coarse)
        task = FineTask(
            model,
            coarsenet,
            config,
            FineData(
                args.photos,
                None if args.dry_run else folder / "faces.npz",
                args.supervised,
                args.quiet,
            ),
            device,
            start=start,
            vgg=args.vgg,
            processes=processes,
        )
    if args.dry_run:
        text = describe(task, folder, device, args.export)
        if processes.first:
            print(text)
        return 0
    run = Run(task, folder, device, minutes=args.minutes, quiet=args.quiet)
    metrics = run.train()
    if not processes.first:
        return 0
    print(
        f"{task.name}: {run.samples} of {task.total} samples, {run.seconds / 3600:.2f} h in "
        f"{folder}"
    )
    for name, value in metrics.items():
        print(f"  {name} {value:.3f}")
    if args.export:
        starts = {"coarse": args.coarse, "aligned": args.coarse, "normals": args.normals}
        started_from = starts.get(args.network, args.fine)
        card = ModelCard.of(run, args.preset, metrics, started_from)
        for name, network in run.averaged.items():
            path = args.export
            if len(run.networks) > 1:
                path = path.with_name(f"{path.stem}_{name}{path.suffix}")
            save_weights(path, network, card)
            print(f"wrote {path}")
    return 0
