"""The command `facerecon video`. Imports wait for the run."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.commands.options import measure, positive, results_folder
from facerecon.commands.outcome import EXIT_CODES, OK, fail, say

if TYPE_CHECKING:
    from facerecon.commands.outputs import Outputs
    from facerecon.pipeline import Reconstructor
    from facerecon.video.clip import Frame

TABLE, SUMMARY, OVERLAY = "_track.csv", "_track.json", "_overlay.mp4"
DEFAULT_CUTOFF = 5.0


def add_video(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "video",
        help="follow a face through a video",
        description=(
            "Follow a face through a video: one identity, pose and expression of every frame,"
            " smoothed over time. Of several faces it is the one that is largest at first. For"
            f" CLIP.mp4, the output folder gets CLIP{TABLE} (a row per frame: time, crop, pose,"
            f" expressions by name), CLIP{SUMMARY} (identity, and what the numbers mean) and"
            f" CLIP{OVERLAY} (the mesh over the video, and as clay beside it, without sound). No"
            " other file is overwritten: names that are taken get a number. What is done is"
            ' skipped when the command is given again. Needs pip install "facerecon[video]".'
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="a video file")
    parser.add_argument(
        "--out", type=results_folder, required=True, metavar="DIR", help="output folder"
    )
    parser.add_argument(
        "--smooth",
        type=_cutoff,
        default=DEFAULT_CUTOFF,
        metavar="HZ",
        help="movements faster than this are smoothed away, such as trembling; 0: none are"
        f" (default: {DEFAULT_CUTOFF:g})",
    )
    parser.add_argument(
        "--every", type=positive, default=1, metavar="N", help="only every Nth frame (default: 1)"
    )
    parser.add_argument(
        "--start", type=_seconds, default=0.0, metavar="S", help="from this second on (default: 0)"
    )
    parser.add_argument("--end", type=measure, metavar="S", help="until this second (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="repeat what is done already")
    parser.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_video, usage_error=parser.error)


def _cutoff(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else measure(text)


_seconds = _cutoff


def _video(args: argparse.Namespace) -> int:
    from facerecon.commands.outputs import Outputs
    from facerecon.files import require_writable
    from facerecon.messages import one_line
    from facerecon.pipeline import Reconstructor
    from facerecon.video.clip import clip_info

    if args.end is not None and args.end <= args.start:
        args.usage_error("--end must be later than --start")
    clip_info(args.clip)  # what is wrong with the file shows before the networks are loaded
    require_writable(args.out)
    outputs = Outputs(args.out, [args.clip], _options(args))
    known = None if args.overwrite else outputs.finished(args.clip)
    if known is not None:
        say(f"{args.clip}: done before, see {args.out / known.files[0]} (--overwrite repeats)")
        return OK
    before = outputs.of(args.clip)
    reconstructor = Reconstructor.from_pretrained(args.coarse, device=args.device, refine=None)
    try:
        made = _track_one(reconstructor, outputs, args)
    except (ValueError, OSError, MemoryError) as error:
        message = str(error) or type(error).__name__
        return fail(message if one_line(str(args.clip)) in message else f"{args.clip}: {message}")
    say(f"{made}{outputs.changed(args.clip, before)}")
    return OK


def _options(args: argparse.Namespace) -> dict[str, object]:
    """What the files depend on besides the clip, as JSON values."""
    import hashlib

    from facerecon import __version__
    from facerecon.weights import shipped

    weights = args.coarse or shipped("coarsenet.safetensors")
    return {
        "command": "video",
        "version": __version__,
        "weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
        "smooth": args.smooth,
        "every": args.every,
        "start": args.start,
        "end": args.end,
    }


def _track_one(reconstructor: "Reconstructor", outputs: "Outputs", args: argparse.Namespace) -> str:
    """Write all files of the clip; returns what to say of them."""
    import json
    import time

    from tqdm import tqdm

    from facerecon.files import write_file
    from facerecon.video.clip import ClipWriter, clip_info, read_frames
    from facerecon.video.overlay import overlay
    from facerecon.video.table import summary, table
    from facerecon.video.track import follow, mean_identity, smooth, with_identity

    model, chosen = reconstructor.model, (args.every, args.start, args.end)
    info = clip_info(args.clip)
    last = info.frames if args.end is None else min(info.frames, round(args.end * info.rate))
    total = max(last - round(args.start * info.rate), 0) // args.every or None
    began = time.perf_counter()

    def frames(what: str) -> Iterator["Frame"]:
        # disable=None: no bar where nobody looks, as in a file.
        shown = {"desc": what, "total": total, "unit": "frame", "disable": None}
        yield from tqdm(read_frames(args.clip, *chosen), **shown)

    raw = follow(reconstructor.coarsenet, model, frames("following"))
    rate = len(raw.found) / (time.perf_counter() - began)
    track = with_identity(raw, mean_identity(raw, model.n_identity))
    if args.smooth:
        track = smooth(track, args.smooth)

    stem = outputs.claim(args.clip, args.clip.stem, _names)
    files = _names(stem)
    outputs.write_record(args.clip, stem, files, done=False)
    with ClipWriter(args.out / f"{stem}{OVERLAY}", info.rate / args.every) as clip:
        for index, frame in enumerate(frames("rendering")):
            clip.add(overlay(frame.image, track, index, model))
    found = summary(raw, track, model)
    write_file(args.out / f"{stem}{SUMMARY}", (json.dumps(found, indent=1) + "\n").encode())
    write_file(args.out / f"{stem}{TABLE}", table(track, model).encode())
    outputs.write_record(args.clip, stem, files, done=True)
    return (
        f"{args.clip}: face found in {found['found']} of {len(raw.found)} frames, followed at"
        f" {rate:.1f} frames/s -> {args.out / files[0]}, {args.out / files[-1]}"
    )


def _names(stem: str) -> list[str]:
    return [f"{stem}{OVERLAY}", f"{stem}{SUMMARY}", f"{stem}{TABLE}"]
