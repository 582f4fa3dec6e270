"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [height, width] = data.size;
const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function element(kind, parent, properties = {}) {
  const made = Object.assign(document.createElement(kind), properties);
  parent.append(made);
  return made;
}

// Pictures are decoded when they are first needed, and drawn once decoded.
const pictures = new Map();
function picture(frame) {
  if (!(frame in data.images)) return Promise.resolve(null);
  if (!pictures.has(frame)) {
    const image = new Image();
    image.src = "data:image/webp;base64," + data.images[frame];
    pictures.set(frame, image.decode().then(() => image));
  }
  return pictures.get(frame);
}

function newCanvas(parent, label) {
  const canvas = element("canvas", parent);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

// Returns a context whose unit is a pixel of the pictures, at the resolution of the screen.
function context(canvas) {
  const shown = canvas.clientWidth || width;
  canvas.width = Math.round(Math.max(shown * (window.devicePixelRatio || 1), width / 2));
  canvas.height = Math.max(1, Math.round((canvas.width * height) / width));
  const pen = canvas.getContext("2d");
  pen.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  return pen;
}

// A canvas may be asked to draw again before its picture is decoded; only the last request counts.
const wishes = new WeakMap();
function paint(canvas, frame, over) {
  wishes.set(canvas, frame);
  return picture(frame).then((image) => {
    if (wishes.get(canvas) !== frame) return;
    const pen = context(canvas);
    if (image) pen.drawImage(image, 0, 0, width, height);
    else { pen.fillStyle = "#888"; pen.fillRect(0, 0, width, height); }
    over(pen);
  });
}

function strokeTwice(pen, path, color) {
  const unit = width / pen.canvas.width;
  const ratio = window.devicePixelRatio || 1;
  pen.lineJoin = "round";
  pen.strokeStyle = "rgba(0,0,0,.55)"; pen.lineWidth = 4 * unit * ratio; pen.stroke(path);
  pen.strokeStyle = color; pen.lineWidth = 2 * unit * ratio; pen.stroke(path);
}

function drawMasks(pen, outlines) {
  pen.save();
  pen.translate(0.5, 0.5);
  for (const [id, text] of Object.entries(outlines || {})) {
    const path = new Path2D(text);
    pen.globalAlpha = 0.42; pen.fillStyle = data.colors[id]; pen.fill(path, "evenodd");
    pen.globalAlpha = 1;
    strokeTwice(pen, path, `color-mix(in srgb, ${data.colors[id]}, white 45%)`);
  }
  pen.restore();
}

function drawTogether(pen, frame) {
  pen.save();
  pen.translate(0.5, 0.5);
  for (const { name, color } of data.policies) {
    for (const text of Object.values(data.outlines[name][frame] || {})) strokeTwice(pen, new Path2D(text), color);
  }
  pen.restore();
}
