// Shows meshes of facerecon.web_view in WebGL 2: in the photograph's colors, and as clay beside it.
//
// Drag, or use the arrow keys, to turn; pinch, Ctrl and wheel, or + and - to zoom; double-click or
// 0 to go back to the front. The camera is orthographic, as that of the method (weak perspective),
// and the light stands still while the face turns.
//
// The page holds one <canvas class="faceview">, <script type="text/plain" id="faceview-data"> with
// what web_view.packed() made, and may hold <input type="range" id="faceview-detail"> from 0
// (coarse) to 1 (detailed), <select id="faceview-look"> and <button id="faceview-front">.
"use strict";

const VERTEX = `#version 300 es
layout(location=0) in vec3 position;
layout(location=1) in float coarse;      // z of the coarse surface at the same x and y
layout(location=2) in vec3 normal;
layout(location=3) in vec3 coarseNormal;
layout(location=4) in vec2 uv;
layout(location=5) in vec3 color;
uniform mat3 turn;
uniform vec3 middle;
uniform vec2 scale;                      // from mm to clip space
uniform float radius, detail;
out vec3 n, c;
out vec2 t;
void main() {
  vec3 p = turn * (vec3(position.xy, mix(coarse, position.z, detail)) - middle);
  n = turn * mix(coarseNormal, normal, detail);
  t = uv;
  c = color;
  gl_Position = vec4(p.xy * scale, -p.z / (2.0 * radius), 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n, c;
in vec2 t;
uniform sampler2D photo;
uniform int look;                        // 0: colors of vertices, 1: texture, 2: clay
out vec4 pixel;
void main() {
  vec3 front = normalize(n);
  front = gl_FrontFacing ? front : -front;
  float lit = 0.16 + 0.70 * max(dot(front, LAMP), 0.0) + 0.22 * max(dot(front, FILL), 0.0);
  // The photograph's own light is in its colors, so they are shown as they are.
  vec3 shown = look == 1 ? texture(photo, t).rgb : look == 0 ? c : vec3(0.92 * min(lit, 1.0));
  pixel = vec4(gl_FrontFacing ? shown : vec3(0.42, 0.45, 0.50) * (0.5 + 0.5 * lit), 1.0);
}`.replace("LAMP", "normalize(vec3(-0.45, 0.55, 0.7))").replace("FILL", "normalize(vec3(0.7, 0.1, 0.5))");

const SWAY_SECONDS = 7;
const FRONT = { yaw: 0, pitch: 0, zoom: 1 };

/** The bytes of base64 text that zlib packed. */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Undo differences from one number to the next, in place; integers wrap around. */
function summed(numbers) {
  for (let i = 1; i < numbers.length; i++) numbers[i] += numbers[i - 1];
  return numbers;
}

/** The arrays of one part, in the order in which web_view.packed() wrote them. */
async function decoded(part) {
  const buffer = await unpacked(part.data);
  const n = part.vertices;
  let at = 0;
  const faces = summed(new Int32Array(buffer, at, 3 * part.faces));
  at += 12 * part.faces;
  const column = (low, step) => {
    const whole = summed(new Uint16Array(buffer, at, n));
    at += 2 * n;
    return Float32Array.from(whole, (value) => low + step * value);
  };
  const columns = part.columns.map(([low, step]) => column(low, step));
  const interleaved = (chosen) => {
    const result = new Float32Array(chosen.length * n);
    chosen.forEach((values, k) => values.forEach((v, i) => (result[i * chosen.length + k] = v)));
    return result;
  };
  const [x, y, z, coarse] = columns;
  const position = interleaved([x, y, z]);
  const rest = columns.slice(4);
  return {
    faces, position, coarse,
    normal: normals(position, faces),
    coarseNormal: normals(interleaved([x, y, coarse]), faces),
    uv: part.texture ? interleaved(rest) : null,
    color: part.texture ? null : interleaved(rest),
  };
}

/** Normals of vertices: sums over the triangles around them, weighted by area. */
function normals(position, faces) {
  const result = new Float32Array(position.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [ux, uy, uz] = [0, 1, 2].map((k) => position[b + k] - position[a + k]);
    const [vx, vy, vz] = [0, 1, 2].map((k) => position[c + k] - position[a + k]);
    const normal = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) result[corner + k] += normal[k];
  }
  for (let i = 0; i < result.length; i += 3) {
    const length = Math.hypot(result[i], result[i + 1], result[i + 2]) || 1;
    for (let k = 0; k < 3; k++) result[i + k] /= length;
  }
  return result;
}

function program(gl) {
  const result = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw Error(gl.getShaderInfoLog(shader));
    gl.attachShader(result, shader);
  }
  gl.linkProgram(result);
  if (!gl.getProgramParameter(result, gl.LINK_STATUS)) throw Error(gl.getProgramInfoLog(result));
  return result;
}

/** Put a part on the graphics processor; returns what draws it. */
async function uploaded(gl, part) {
  const mesh = await decoded(part);
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  const attribute = (place, values, size) => {
    if (!values) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
  };
  attribute(0, mesh.position, 3);
  attribute(1, mesh.coarse, 1);
  attribute(2, mesh.normal, 3);
  attribute(3, mesh.coarseNormal, 3);
  attribute(4, mesh.uv, 2);
  attribute(5, mesh.color, 3);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(mesh.faces), gl.STATIC_DRAW);
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  if (part.texture) {
    const image = new Image();
    image.src = part.texture;
    await image.decode();
    gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true); // v runs upward
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, part.repeat ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, part.repeat ? gl.REPEAT : gl.CLAMP_TO_EDGE);
  }
  return { array, texture, count: mesh.faces.length, plain: part.texture ? 1 : 0 };
}

async function show(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) throw Error("this browser has no WebGL 2, which the 3D view needs");
  const scene = JSON.parse(document.getElementById("faceview-data").textContent);
  const shader = program(gl);
  const uniform = (name) => gl.getUniformLocation(shader, name);
  const parts = [];
  for (const part of scene.parts) parts.push(await uploaded(gl, part));
  const slider = document.getElementById("faceview-detail");
  const looks = document.getElementById("faceview-look");
  const camera = { ...FRONT };

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((s) => Math.round(s * ratio));
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const [sy, cy, sx, cx] = [camera.yaw, camera.pitch].flatMap((a) => [Math.sin(a), Math.cos(a)]);
    gl.useProgram(shader);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    // R_x(pitch) R_y(yaw), column after column.
    gl.uniformMatrix3fv(uniform("turn"), false, [cy, sx * sy, -cx * sy, 0, cx, sx, sy, -sx * cy, cx * cy]);
    gl.uniform3fv(uniform("middle"), scene.middle);
    gl.uniform1f(uniform("radius"), scene.radius);
    gl.uniform1f(uniform("detail"), slider ? Number(slider.value) : 1);
    const chosen = looks ? looks.value : "both";
    const views = chosen === "both" ? [false, true] : [chosen === "clay"];
    views.forEach((clay, k) => {
      const across = width >= height;
      const [w, h] = across ? [width / views.length, height] : [width, height / views.length];
      gl.viewport(across ? k * w : 0, across ? 0 : (views.length - 1 - k) * h, w, h);
      const unit = Math.min(1.2 / scene.radius, 0.96 / scene.reach) * camera.zoom * Math.min(w, h);
      gl.uniform2f(uniform("scale"), unit / w, unit / h);
      for (const part of parts) {
        gl.uniform1i(uniform("look"), clay ? 2 : part.plain);
        gl.bindVertexArray(part.array);
        gl.bindTexture(gl.TEXTURE_2D, part.texture);
        gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 0);
      }
    });
  }

  let touched = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let waiting = false;
  const redraw = () => {
    if (!waiting) requestAnimationFrame(() => ((waiting = false), draw()));
    waiting = true;
  };
  const limited = (value, most) => Math.max(-most, Math.min(most, value));
  const move = (yaw, pitch, zoom = 1) => {
    touched = true;
    camera.yaw = limited(camera.yaw + yaw, Math.PI);
    camera.pitch = limited(camera.pitch + pitch, Math.PI / 2);
    camera.zoom = Math.max(0.3, Math.min(12, camera.zoom * zoom));
    redraw();
  };
  const front = () => {
    Object.assign(camera, FRONT);
    move(0, 0);
  };

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    fingers.set(event.pointerId, event);
    const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
    if (other) move(0, 0, apart(event) / Math.max(apart(before), 1));
    else move((event.clientX - before.clientX) / 150, (event.clientY - before.clientY) / 150);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    move(0, 0, Math.exp(-event.deltaY / 200));
  }, { passive: false });
  canvas.addEventListener("dblclick", front);
  canvas.addEventListener("keydown", (event) => {
    const steps = {
      ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1],
      "+": [0, 0, 1.1], "=": [0, 0, 1.1], "-": [0, 0, 1 / 1.1],
    };
    if (event.key === "0") front();
    else if (event.key in steps) move(...steps[event.key]);
    else return;
    event.preventDefault();
  });
  slider?.addEventListener("input", () => move(0, 0));
  looks?.addEventListener("change", () => move(0, 0));
  document.getElementById("faceview-front")?.addEventListener("click", front);
  new ResizeObserver(redraw).observe(canvas);

  // One slow look around, so that a still page, too, says that this is a surface.
  let begin = null;
  const sway = (now) => {
    begin ??= now;
    const share = (now - begin) / 1000 / SWAY_SECONDS;
    if (touched || share >= 1) return;
    camera.yaw = 0.6 * Math.sin(2 * Math.PI * share) * Math.sin(Math.PI * share);
    draw();
    requestAnimationFrame(sway);
  };
  draw();
  requestAnimationFrame(sway);
  // For scripts and tests: an exact view, in degrees.
  canvas.turnTo = (yaw, pitch, zoom = 1) => {
    touched = true;
    Object.assign(camera, { yaw: (yaw * Math.PI) / 180, pitch: (pitch * Math.PI) / 180, zoom });
    draw();
  };
  canvas.dataset.ready = "yes";
}

for (const canvas of document.querySelectorAll("canvas.faceview")) {
  show(canvas).catch((error) => {
    const message = document.createElement("p");
    message.className = "problem";
    message.textContent = `No 3D view: ${error.message}.`;
    canvas.replaceWith(message);
  });
}
