"""A track as files for other programs: a row per frame, and what holds for all frames."""

import csv
import io

import numpy as np

from facerecon import __version__
from facerecon.morphable_model import MorphableModel
from facerecon.video.smoothing import tremble
from facerecon.video.track import Track

FORMAT = "facerecon-track/1"

COLUMNS = (
    "frame", "time_s", "found", "crop_x", "crop_y", "crop_side", "pitch_deg", "yaw_deg", "roll_deg",
    "center_x", "center_y", "pixels_per_mm",
)  # fmt: skip
"""Of the table, before one for each expression."""

UNITS = {
    "frame": "place in the video file, counted from 0",
    "time_s": "seconds since the file's first frame",
    "found": "1 where the face was found; the other columns are empty where it was not",
    "crop_x, crop_y, crop_side": "pixels from the frame's left top corner: the square about the"
    " face, 214 mm wide",
    "pitch_deg, yaw_deg, roll_deg": "degrees; positive: looking down, nose to the viewer's right,"
    " counter-clockwise as the viewer sees it",
    "center_x, center_y": "column and row of the model's origin, 17 mm below the middle of the"
    " eyes; the center of the frame's top left pixel is (0, 0)",
    "pixels_per_mm": "if the head has the mean size of the model",
    "expressions": "1 is the whole movement",
    "identity": "standard deviations, in the order of the model's basis",
    "tremble": "standard deviation of the noise from frame to frame, before and after smoothing",
}


def table(track: Track, model: MorphableModel) -> str:
    """The track as CSV: `COLUMNS`, then the expressions by name; what they mean: `UNITS`."""
    angles = np.rad2deg(track.angles)
    active = track.coefficients[:, model.n_identity :] * model.expression_std.cpu().numpy()
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, *model.expression_names])
    for i, found in enumerate(track.found):
        row = [track.number[i], f"{track.time[i]:.4f}", int(found)]
        if found:
            row += [f"{value:.3f}" for value in (*track.crop[i], *angles[i], *track.center[i])]
            row += [f"{track.pixels_per_mm[i]:.5f}"]
            row += [f"{value:.4f}" for value in active[i]]
        else:
            row += [""] * (len(COLUMNS) - 3 + active.shape[1])
        rows.writerow(row)
    return text.getvalue()


def summary(raw: Track, track: Track, model: MorphableModel) -> dict[str, object]:
    """What holds for all frames, as JSON values: identity, units, how much the numbers tremble.

    Args:
        raw: the track as it was fitted, frame by frame. track: with one identity, smoothed.
    """
    first = int(np.argmax(track.found))
    rows, columns = track.shape
    trembling = {
        name: {
            when: round(tremble(values(each)), 4)
            for when, each in (("before", raw), ("after", track))
        }
        for name, values in (
            ("angles_deg", lambda t: np.rad2deg(t.angles)),
            ("center_px", lambda t: t.center),
        )
    }
    return {
        "format": FORMAT,
        "facerecon": __version__,
        "frames": {"width": columns, "height": rows, "count": len(track.found)},
        "found": int(track.found.sum()),
        "identity": track.coefficients[first, : model.n_identity].astype(float).round(4).tolist(),
        "tremble": trembling,
        "units": UNITS,
    }
