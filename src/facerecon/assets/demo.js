// The page of `facerecon demo`: sends a photograph from a file, the clipboard or the camera to the
// program that served the page, and goes to the page with the 3D face that it answers with.
"use strict";

const part = (id) => document.getElementById(id);
const limit = Number(document.querySelector("main").dataset.limit);
const video = document.querySelector("video");
let busy = false;
let camera = null;

function say(text) {
  part("status").textContent = text;
  part("status").classList.toggle("waiting", busy);
}

function problem(text) {
  part("problem").textContent = text;
  part("problem").hidden = !text;
}

function work(now) {
  busy = now;
  document.body.classList.toggle("busy", now);
  for (const control of document.querySelectorAll("button, input")) control.disabled = now;
  part("shoot").disabled = now || !video.videoWidth;
}

/** Send a photograph; on success the page of its face opens. */
async function send(photo, name) {
  if (busy) return;
  problem("");
  if (photo.size > limit) {
    problem(`${name}: has ${(photo.size / 1e6).toFixed(0)} MB; at most ${limit / 1e6} MB are taken.`);
    return;
  }
  show(photo);
  work(true);
  say("Reconstructing the face…");
  try {
    const answer = await fetch(`/reconstruct?name=${encodeURIComponent(name)}`, { method: "POST", body: photo });
    const found = await answer.json();
    if (answer.ok) {
      closeCamera();
      location.assign(found.page);
      return;
    }
    problem(found.error);
  } catch {
    problem("The program does not answer. Is facerecon demo still running?");
  }
  work(false);
  say("");
}

function show(photo) {
  const image = part("chosen");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(photo);
  image.hidden = false;
  image.onerror = () => (image.hidden = true); // not a photograph that the browser knows
}

async function openCamera() {
  problem("");
  try {
    if (!navigator.mediaDevices) throw Error("this browser gives none to this page");
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  } catch (error) {
    const causes = { NotAllowedError: "the browser was not allowed to use it", NotFoundError: "there is none" };
    problem(`No camera: ${causes[error.name] ?? error.message}.`);
    return;
  }
  video.srcObject = camera;
  part("camera").hidden = false;
  part("drop").hidden = true;
  await video.play();
  part("shoot").disabled = busy || !video.videoWidth;
}

function closeCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = video.srcObject = null;
  part("camera").hidden = true;
  part("drop").hidden = false;
}

function shoot() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0); // not mirrored, as the preview is
  canvas.toBlob((photo) => send(photo, "camera.jpg"), "image/jpeg", 0.95);
}

const take = (file) => file && send(file, file.name || "photograph");

part("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
part("webcam").addEventListener("click", openCamera);
part("stop").addEventListener("click", closeCamera);
part("shoot").addEventListener("click", shoot);
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
// Over the whole page: a photograph dropped beside the field must not replace the page.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
// Back from a face's page: the browser may show this one as it was left.
window.addEventListener("pageshow", () => {
  work(false);
  say("");
});
