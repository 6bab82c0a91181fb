"""Faces in 3D under the hand, and the reconstruction of a photograph that a reader chooses.

ipywidgets and plotly come with `pip install "facerecon[notebooks]"`. Each object keeps its own
state, so a notebook's variables cannot break it.
"""

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerecon.detection.detect import detect_faces
from facerecon.imaging import load_image
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction
from facerecon.views.viz import figure_png, live_figure, preview, viewer
from facerecon.views.webcam import decoded, webcam

if TYPE_CHECKING:
    from ipywidgets import Box

LOOKS = ("textured", "clay")

STEPS = (
    "reading the photograph",
    "looking for a face",
    "fitting the coarse face, adding detail",
    "making the 3D view",
    "writing the files",
)
"""What an `OwnPhoto` does, in this order."""

MEDIA_TYPES = {".glb": "model/gltf-binary", ".stl": "model/stl"}


class FaceViewer:
    """Faces that can be turned with the mouse, in the photograph's colors or as clay.

        FaceViewer({"Grace Hopper": face}).live()  # in a notebook; needs a kernel

    The view is made when the button is pressed: it sends some MB to the browser.

    Attributes:
        faces: by name; may be added to.
        choice, look, button: the widgets. stage: holds the 3D view.

    Raises:
        ImportError: ipywidgets or plotly is missing.
    """

    def __init__(self, faces: dict[str, Reconstruction]) -> None:
        import ipywidgets as widgets

        self.faces = faces
        self.choice = widgets.Dropdown(options=list(faces), description="face")
        self.look = widgets.ToggleButtons(options=LOOKS)
        self.button = widgets.Button(description="show in 3D", button_style="primary")
        self.stage = widgets.VBox()
        self.button.on_click(self.show)
        for control in (self.choice, self.look):
            control.observe(self._again, "value")

    def show(self, button: Any = None) -> None:
        """Put the chosen face on the stage."""
        figure = viewer(self.faces[self.choice.value], textured=self.look.value == LOOKS[0])
        self.stage.children = [live_figure(figure)]

    def live(self) -> "Box":
        """Controls above the 3D view, to be shown in a notebook."""
        import ipywidgets as widgets

        controls = [self.choice] if len(self.faces) > 1 else []
        return widgets.VBox([widgets.HBox([*controls, self.look, self.button]), self.stage])

    def _again(self, change: Any) -> None:
        if self.stage.children:
            self.show()


class OwnPhoto:
    """Buttons that reconstruct the reader's own photograph: in 3D, and as files to download.

        OwnPhoto(reconstructor, "output").live()  # in a notebook; needs a kernel

    The photograph is a file, or taken with the camera of the browser's computer. It stays where
    the kernel runs. `your_face.glb` (with texture) and `your_face.stl`
    (a closed solid, for a printer) are written to the folder, and links below download them.

    Attributes:
        upload, camera, progress, message, picture, downloads: the widgets.
        shown: the `FaceViewer`, None before the first face.

    Args:
        reconstructor: makes the face.
        folder: where the two files go; it exists.

    Raises:
        ImportError: ipywidgets or anywidget is missing.
    """

    def __init__(self, reconstructor: Reconstructor, folder: str | Path) -> None:
        import ipywidgets as widgets

        self.reconstructor, self.folder = reconstructor, Path(folder)
        self.upload = widgets.FileUpload(accept="image/*", description="your photograph")
        self.camera = webcam()
        self.progress = widgets.IntProgress(max=len(STEPS))
        self.message, self.picture = widgets.Label(), widgets.Image(format="png")
        self.downloads = widgets.HTML()
        self.shown: FaceViewer | None = None
        self._place = widgets.VBox()
        self.upload.layout.width = "auto"
        self.picture.layout.display = "none"
        self.upload.observe(self._chosen, "value")
        self.camera.observe(self._taken, "photo")

    def open(self, name: str, content: bytes) -> Reconstruction | None:
        """Reconstruct a photograph and show it; None, and a message, where that is impossible.

        Args:
            name: of the file, for messages.
            content: of the file.
        """
        self._clear()
        stream = io.BytesIO(content)
        stream.name = name
        try:
            self._begin(0)
            photo = load_image(stream)
            self._begin(1)
            boxes = detect_faces(photo, self.reconstructor.coarsenet, self.reconstructor.model)
            self._begin(2)
            face = self.reconstructor(photo, box=boxes[0])
        except ValueError as error:  # not an image, no face, or a fit gone astray
            self.progress.bar_style = "danger"
            self.message.value = f"{name}: {error}".replace(f"{name}: {name}", name)
            return None
        self._begin(3)
        self.picture.value = figure_png(preview(face, size=240))
        self.picture.layout.display = ""
        self.shown = FaceViewer({name: face})
        self.shown.show()
        self._place.children = [self.shown.live()]
        self._begin(4)
        files = face.save(self.folder / "your_face.glb")
        files += face.save_solid(self.folder / "your_face.stl")
        self.downloads.value = "Download " + " or ".join(map(download_link, files))
        self.progress.value, self.progress.bar_style = len(STEPS), "success"
        self.message.value = "done; also in " + str(self.folder)
        return face

    def live(self) -> "Box":
        """The buttons, the progress and the result, to be shown in a notebook."""
        import ipywidgets as widgets

        above = widgets.HBox([self.upload, self.camera])
        state = widgets.HBox([self.progress, self.message])
        return widgets.VBox([above, state, self.downloads, self._place, self.picture])

    def _chosen(self, change: Any) -> None:
        for file in change["new"]:
            self.open(file["name"], bytes(file["content"]))

    def _taken(self, change: Any) -> None:
        self.open("your picture", decoded(change["new"]))

    def _begin(self, step: int) -> None:
        self.progress.value = step
        self.message.value = f"{step + 1} of {len(STEPS)}: {STEPS[step]} ..."

    def _clear(self) -> None:
        self.progress.bar_style, self.downloads.value, self.picture.value = "", "", b""
        self.picture.layout.display, self._place.children, self.shown = "none", [], None


def download_link(path: Path) -> str:
    """An HTML link that holds a file's content, so that it works wherever the notebook is open."""
    content = base64.b64encode(path.read_bytes()).decode()
    kind = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    name = html.escape(path.name)
    return f'<a download="{name}" href="data:{kind};base64,{content}"><b>{name}</b></a>'
