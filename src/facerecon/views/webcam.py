"""A snapshot with the reader's camera, for a notebook.

ipywidgets has no camera; anywidget, which comes with `pip install "facerecon[notebooks]"`, lets the
browser's take the picture.
"""

import base64
from typing import Any

SOURCE = """
function render({ model, el }) {
  const button = document.createElement("button");
  const video = document.createElement("video");
  const note = document.createElement("span");
  button.className = "jupyter-button widget-button";
  button.style.width = "auto";
  video.muted = video.playsInline = true;
  video.style.cssText = "display: none; max-width: 400px; transform: scaleX(-1); margin: 4px 0";
  el.append(button, " ", note, video);
  let stream = null, closed = false;

  function stop() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.srcObject = null;
    video.style.display = "none";
    button.textContent = "use the camera";
  }

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      note.textContent = "The browser allows no camera here; it does for localhost and https.";
      return;
    }
    const size = { width: { ideal: 1280 }, height: { ideal: 960 } };
    note.textContent = "Waiting for the browser's permission ...";
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: size });
    } catch (error) {
      note.textContent = `No camera: ${error.message || error.name}.`;
      return;
    }
    if (closed) { stop(); return; }
    video.srcObject = stream;
    video.style.display = "block";
    await video.play();
    note.textContent = "Look into the camera. The picture is not stored.";
    button.textContent = "take the picture";
  }

  function take() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);  // not mirrored, unlike what is shown
    stop();
    note.textContent = "";
    model.set("photo", canvas.toDataURL("image/png"));
    model.save_changes();
  }

  stop();
  button.onclick = async () => {
    button.disabled = true;
    try { await (stream ? take() : start()); } finally { button.disabled = false; }
  };
  return () => { closed = true; stop(); };
}
export default { render };
"""
"""The browser's part. The stream ends with the picture, and when the output is cleared."""


def webcam() -> Any:
    """A widget with a button that takes a picture: a PNG's `data:` URL in its trait `photo`.

    The trait is "" before; `decoded` makes bytes of it.

    Nothing is seen before the reader presses the button and the browser has asked. Browsers
    offer the camera to pages of https and of this computer alone.

    Raises:
        ImportError: anywidget is missing.
    """
    import anywidget
    import traitlets

    class Webcam(anywidget.AnyWidget):
        _esm = SOURCE
        photo = traitlets.Unicode().tag(sync=True)

    return Webcam()


def decoded(url: str) -> bytes:
    """The file in a `data:` URL."""
    return base64.b64decode(url.partition(",")[2])
