// The picture with its masks: zoom, pan, and the tools.

const POINT = 7; // radius on the screen
const TINT = 0.42;
const SLIP = 6; // pixels on the screen that the pointer may move during a click
const STEP = 10; // pixels on the screen that an arrow key moves the crosshair; with Shift, one pixel of the video
const ARROWS = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });

/** @param {string} color @returns {[number, number, number]} */
export function rgb(color) {
  const part = (/** @type {number} */ at) => parseInt(color.slice(at, at + 2), 16);
  return [part(1), part(3), part(5)];
}

/** The distance between two events on the screen. @param {MouseEvent} one @param {MouseEvent} other */
const apart = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);

export class Viewer extends EventTarget {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {ImageBitmap | null} */
    this.picture = null;
    /** @type {Labels | null} */
    this.labels = null;
    this.overlay = document.createElement("canvas");
    /** @type {Map<number, StudioObject>} */
    this.objects = new Map();
    /** @type {Set<number>} */
    this.hidden = new Set();
    this.showMasks = true;
    /** @type {[number, number, number][]} */
    this.points = [];
    /** @type {[number, number, number, number] | null} */
    this.box = null;
    /** @type {[number, number][]} */
    this.polygon = [];
    /** @type {Tool} */
    this.tool = "click";
    this.asking = false; // whether the next press asks about a pixel, with any tool
    this.selected = 0;
    this.brush = 12; // radius in pixels of the video
    this.width = this.height = 1;
    this.scale = 1;
    this.left = this.top = 0;
    /** @type {[number, number] | null} */
    this.cursor = null;
    /** @type {[number, number] | null} the keyboard's crosshair, in pixels of the video */
    this.cross = null;
    this.aiming = false;
    this.fitted = true;
    this.drawing = false;
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    this.gesture = "";
    /** @type {{ event: PointerEvent; x: number; y: number } | null} the press that may become a click, in pixels of the video */
    this.pressed = null;
    /** @type {Uint16Array | null} the masks before the stroke that is being drawn */
    this.before = null;
    this.touched = new Uint8Array(); // 1 for each pixel that the stroke goes over
    this.painting = 0; // the object that the stroke is of: another may be selected before its end
    this.stretch = 1; // width of a shown pixel divided by its height
    /** @type {[number, number, number]} */
    this.tapped = [-1, 0, 0]; // time and place on the screen of the last tap
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(/** @type {PointerEvent} */ (event)));
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("mousedown", (event) => { event.preventDefault(); /** @type {HTMLElement | null} */ (document.activeElement)?.blur(); }); // the mouse does not need the focus
    canvas.addEventListener("focus", () => this.aim());
    canvas.addEventListener("blur", () => { this.aiming = false; this.cursor = null; if (this.gesture === "corner") this.cancel(); this.emit("aim"); this.draw(); });
    canvas.addEventListener("keydown", (event) => { if (this.key(event)) { event.preventDefault(); event.stopPropagation(); } });
    canvas.addEventListener("dblclick", () => { if (this.tool === "polygon") this.closePolygon(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [x, y] = this.onScreen(event);
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), x, y);
    }, { passive: false });
  }

  /** The tool that a press uses. */
  get acting() { return this.asking ? "click" : this.tool; }

  /** Whether a stroke or a box is being drawn, which belongs to the shown frame. */
  get drawingShape() { return this.gesture === "paint" || this.gesture === "box" || this.gesture === "corner"; }

  /** @param {number} width @param {number} height @param {number} stretch */
  setVideo(width, height, stretch) {
    this.tapped = [-1, 0, 0];
    Object.assign(this, { stretch, width, height, picture: null, labels: null, points: [], box: null, polygon: [], cross: null, cursor: null });
    this.overlay.width = width;
    this.overlay.height = height;
    this.fit();
  }

  /** @param {ImageBitmap} picture @param {Labels} labels */
  show(picture, labels) {
    if (picture !== this.picture) this.tapped = [-1, 0, 0];
    this.picture = picture;
    this.setLabels(labels);
  }

  /** @param {Labels} labels */
  setLabels(labels) {
    this.labels = labels;
    this.paintOverlay();
    this.draw();
  }

  resize() { if (this.fitted) this.fit(); else this.draw(); }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect(), margin = 20;
    this.scale = Math.max(0.01, Math.min((width - margin) / this.width / this.stretch, (height - margin) / this.height));
    this.left = (width - this.width * this.scale * this.stretch) / 2;
    this.top = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.emit("zoomed");
    this.draw();
  }

  /** @param {number} factor @param {number} [x] @param {number} [y] on the screen */
  zoom(factor, x, y) {
    const box = this.canvas.getBoundingClientRect();
    const at = x ?? box.width / 2, down = y ?? box.height / 2;
    const scale = Math.min(40, Math.max(0.05, this.scale * factor));
    this.left = at - (at - this.left) * scale / this.scale;
    this.top = down - (down - this.top) * scale / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.emit("zoomed");
    this.draw();
  }

  /** Repaints the masks, or only a part of them. @param {[number, number, number, number]} [part] left, top, right, bottom */
  paintOverlay(part) {
    const labels = this.labels;
    const context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
    if (!labels || labels.width !== this.width) { context.clearRect(0, 0, this.width, this.height); return; }
    const [x0, y0, x1, y1] = part ?? [0, 0, this.width, this.height];
    const image = context.createImageData(x1 - x0, y1 - y0), out = new Uint32Array(image.data.buffer);
    const { ids, width, height } = labels;
    /** @type {Map<number, [number, number]>} */
    const inks = new Map();
    for (const [id, object] of this.objects) {
      if (this.hidden.has(id)) continue;
      const [r, g, b] = rgb(object.color), strong = id === this.selected;
      const alpha = Math.round(255 * (strong ? TINT + 0.08 : TINT - 0.06));
      inks.set(id, [(alpha << 24 | b << 16 | g << 8 | r) >>> 0, (255 << 24 | b << 16 | g << 8 | r) >>> 0]);
    }
    const edge = Math.max(1, Math.round(Math.min(width, height) / 480));
    for (let y = y0, at = 0; y < y1; y++) {
      for (let x = x0; x < x1; x++, at++) {
        const place = y * width + x, id = ids[place];
        const ink = id ? inks.get(id) : undefined;
        if (!ink) continue;
        const rim = (x >= edge && ids[place - edge] !== id) || (x < width - edge && ids[place + edge] !== id)
          || (y >= edge && ids[place - edge * width] !== id) || (y < height - edge && ids[place + edge * width] !== id);
        out[at] = rim ? ink[1] : ink[0];
      }
    }
    context.putImageData(image, x0, y0);
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.paint(); });
  }

  paint() {
    const { context, canvas } = this, ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height }); // another monitor may have another ratio
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * this.scale * this.stretch, 0, 0, ratio * this.scale, ratio * this.left, ratio * this.top);
    context.imageSmoothingEnabled = this.scale < 3;
    if (this.picture) context.drawImage(this.picture, 0, 0, this.width, this.height);
    if (this.showMasks) context.drawImage(this.overlay, 0, 0);
    const unit = 1 / this.scale;
    if (this.box) this.strokeShape((path) => path.rect(...this.rect(/** @type {any} */ (this.box))), unit);
    if (this.polygon.length) {
      this.strokeShape((path) => {
        for (const [x, y] of this.polygon) path.lineTo(x, y);
        if (this.cursor) path.lineTo(...this.cursor);
      }, unit);
      for (const [x, y] of this.polygon) this.dot(x, y, 4 * unit, "#ffffff", unit);
    }
    for (const [x, y, on] of this.points) this.mark(x, y, on > 0, unit);
    if (this.cross && this.aiming) this.hair(...this.cross, unit);
    if (this.cursor && (this.acting === "brush" || this.acting === "eraser")) {
      this.strokeShape((path) => path.arc(.../** @type {[number, number]} */ (this.cursor), this.brush, 0, 2 * Math.PI), unit);
    }
  }

  /** @param {(path: Path2D) => void} build @param {number} unit */
  strokeShape(build, unit) {
    const path = new Path2D();
    build(path);
    for (const [ink, width] of /** @type {[string, number][]} */ ([["#00000099", 3.5], ["#ffffff", 1.5]])) {
      this.context.lineWidth = width * unit;
      this.context.strokeStyle = ink;
      this.context.stroke(path);
    }
  }

  /** @param {number} x @param {number} y @param {number} radius @param {string} ink @param {number} unit */
  dot(x, y, radius, ink, unit) {
    const { context } = this;
    context.beginPath();
    context.ellipse(x, y, radius / this.stretch, radius, 0, 0, 2 * Math.PI);
    context.fillStyle = ink;
    context.fill();
    context.lineWidth = 1.5 * unit;
    context.strokeStyle = "#0008";
    context.stroke();
  }

  /** @param {number} x @param {number} y @param {boolean} on @param {number} unit */
  mark(x, y, on, unit) {
    const { context } = this, arm = 3.2 * unit, across = arm / this.stretch;
    this.dot(x, y, POINT * unit, "#ffffff", unit);
    context.strokeStyle = on ? "#0a7d54" : "#c62f38";
    context.lineWidth = 2 * unit;
    context.beginPath();
    context.moveTo(x - across, y);
    context.lineTo(x + across, y);
    if (on) { context.moveTo(x, y - arm); context.lineTo(x, y + arm); }
    context.stroke();
  }

  /** @param {number} x @param {number} y @param {number} unit */
  hair(x, y, unit) {
    const gap = 9 * unit, arm = 26 * unit;
    this.strokeShape((path) => {
      for (const [dx, dy] of Object.values(ARROWS)) { path.moveTo(x + dx * gap, y + dy * gap); path.lineTo(x + dx * arm, y + dy * arm); }
    }, unit);
  }

  /** Shows the crosshair where it was last, at first in the middle of the visible part. */
  aim() {
    this.aiming = true;
    if (this.cross) { this.pointTo(...this.cross); return; }
    const box = this.canvas.getBoundingClientRect();
    const middle = (/** @type {number} */ length, /** @type {number} */ from, /** @type {number} */ whole) => Math.min(whole - 1, Math.max(0, Math.floor((length / 2 - from) / this.scale)));
    this.pointTo(Math.min(this.width - 1, middle(box.width, this.left, this.width * this.stretch) / this.stretch), middle(box.height, this.top, this.height));
  }

  /** @param {number} x @param {number} y */
  pointTo(x, y) {
    const at = /** @type {[number, number]} */ ([Math.min(this.width - 1, Math.max(0, x)), Math.min(this.height - 1, Math.max(0, y))]);
    this.cross = this.cursor = at;
    if (this.gesture === "corner" && this.box) this.box = [this.box[0], this.box[1], at[0] - this.box[0], at[1] - this.box[1]];
    const box = this.canvas.getBoundingClientRect(), margin = 40;
    const inside = (/** @type {number} */ place, /** @type {number} */ length) => Math.min(length - margin, Math.max(margin, place)) - place;
    const dx = inside(at[0] * this.scale * this.stretch + this.left, box.width), dy = inside(at[1] * this.scale + this.top, box.height);
    if (!this.fitted && (dx || dy)) this.pan(dx, dy);
    this.emit("aim");
    this.draw();
  }

  /** Handles a key in the picture. @param {KeyboardEvent} event @returns {boolean} whether it was used */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.cross) return false;
    const arrow = ARROWS[event.key], [x, y] = this.cross;
    if (arrow) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(STEP / this.scale));
      this.pointTo(x + arrow[0] * step, y + arrow[1] * step);
      return true;
    }
    if (event.key === "Escape") {
      if (this.box || this.polygon.length) this.cancel(); else this.canvas.blur();
      return true;
    }
    if (event.key === "Enter" && this.acting === "polygon") { this.closePolygon(); return true; }
    if (event.key !== "Enter" && event.key !== " ") return false;
    this.press(x, y, event.shiftKey);
    return true;
  }

  /** Uses the tool at the keyboard's crosshair. @param {number} x @param {number} y @param {boolean} minus */
  press(x, y, minus) {
    if (!this.labels) { this.emit("early"); return; }
    if (this.acting === "click" || this.acting === "pan") {
      this.emit("click", { x, y, near: this.near(x, y), minus });
    } else if (this.acting === "polygon") {
      this.polygon.push([x, y]);
    } else if (this.acting === "box") {
      if (this.gesture === "corner") { this.gesture = ""; this.boxed(); this.emit("rest"); } else { this.emit("begin"); this.gesture = "corner"; this.box = [x, y, 0, 0]; }
    } else if (this.emit("begin-paint")) {
      this.begin();
      this.stroke(x, y, x, y);
      this.paintedNow();
    }
    this.draw();
  }

  /** Begins a stroke. */
  begin() {
    this.touched = new Uint8Array(this.width * this.height);
    this.painting = this.selected;
  }

  /** Ends a stroke. */
  paintedNow() {
    this.before = null;
    this.emit("painted", { tool: this.tool, object: this.painting, touched: this.touched });
  }

  /** Ends a box. */
  boxed() {
    const [x, y, width, height] = this.rect(this.box ?? [0, 0, 0, 0]);
    const left = Math.round(Math.max(0, x)), top = Math.round(Math.max(0, y));
    const right = Math.round(Math.min(this.width, x + width)), bottom = Math.round(Math.min(this.height, y + height));
    this.box = null;
    if (right - left > 3 && bottom - top > 3) this.emit("box", { box: [left, top, right - left, bottom - top] });
  }

  /** The index of the click that is drawn at a position, −1 for none. @param {number} x @param {number} y */
  near(x, y) { return this.points.findIndex(([px, py]) => Math.hypot((px - x) * this.stretch, py - y) * this.scale <= POINT + 1); }

  /** @param {MouseEvent} event @returns {[number, number]} */
  onScreen(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {MouseEvent} event @returns {[number, number]} in pixels of the video */
  inVideo(event) {
    const [x, y] = this.onScreen(event);
    return [(x - this.left) / this.scale / this.stretch, (y - this.top) / this.scale];
  }

  /** @param {number} x @param {number} y */
  isInside(x, y) { return x >= 0 && y >= 0 && x < this.width && y < this.height; }

  /** @param {PointerEvent} event */
  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    const [x, y] = this.inVideo(event);
    if (this.pointers.size > 1) { this.undraw(); this.gesture = "pinch"; return; }
    if (this.acting === "pan" || event.button === 1) { this.gesture = "pan"; return; }
    if (event.button > 0 && this.acting !== "click") return;
    if (!this.labels) { this.emit("early"); return; }
    this.emit("begin");
    if (this.acting === "brush" || this.acting === "eraser") {
      if (!this.emit("begin-paint")) return;
      this.gesture = "paint";
      this.begin();
      this.before = this.labels && this.labels.ids.slice();
      this.stroke(x, y, x, y);
    } else if (this.acting === "box") {
      this.gesture = "box";
      this.box = [x, y, 0, 0];
    } else {
      this.gesture = "tap";
      this.pressed = { event, x, y };
    }
  }

  /** @param {PointerEvent} event */
  move(event) {
    const before = this.pointers.get(event.pointerId), [x, y] = this.inVideo(event);
    this.cursor = [x, y];
    if (before) {
      const [oldX, oldY] = this.inVideo(before);
      if (this.gesture === "pan") { this.pan(event.clientX - before.clientX, event.clientY - before.clientY); }
      if (this.gesture === "pinch") { this.pinch(event); }
      if (this.gesture === "tap" && this.pressed && apart(event, this.pressed.event) > SLIP) this.gesture = "";
      if (this.gesture === "paint") this.stroke(oldX, oldY, x, y);
      if (this.gesture === "box" && this.box) this.box = [this.box[0], this.box[1], x - this.box[0], y - this.box[1]];
      this.pointers.set(event.pointerId, event);
    }
    this.draw();
  }

  /** @param {PointerEvent} event */
  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { gesture, pressed } = this;
    if (gesture === "pinch") { if (!this.pointers.size) this.gesture = ""; return; }
    this.gesture = "";
    if (event.type === "pointercancel") { this.cancel(); return; }
    if (gesture === "paint") this.paintedNow();
    if (gesture === "box") this.boxed();
    this.emit("rest");
    if (gesture === "tap" && pressed && this.isInside(pressed.x, pressed.y)) this.tap(pressed);
    this.draw();
  }

  /** @param {{ event: PointerEvent; x: number; y: number }} pressed event and place where the press began: the picture may have moved since */
  tap({ event, x, y }) {
    const [when, left, top] = this.tapped;
    this.tapped = [event.timeStamp, event.clientX, event.clientY];
    if (this.acting === "polygon") {
      const first = this.polygon[0];
      if (first && this.polygon.length > 2 && Math.hypot((first[0] - x) * this.stretch, first[1] - y) * this.scale < 12) this.closePolygon();
      else this.polygon.push([x, y]);
      return;
    }
    // The second click of a double-click would remove the first.
    if (when >= 0 && event.timeStamp - when < 500 && Math.hypot(event.clientX - left, event.clientY - top) < 5) return;
    this.emit("click", { x, y, near: this.near(x, y), minus: event.button === 2 || event.ctrlKey || event.altKey || event.shiftKey }); // Ctrl-click is a right-click on a Mac
  }

  closePolygon() {
    if (this.polygon.length < 3 || !this.labels) { this.polygon = []; this.draw(); return; }
    if (!this.emit("begin-paint")) return; // the corners stay, for another Enter
    const corners = this.polygon;
    this.polygon = [];
    const canvas = document.createElement("canvas");
    canvas.width = this.width;
    canvas.height = this.height;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.beginPath();
    for (const [x, y] of corners) context.lineTo(x, y);
    context.closePath();
    context.fill();
    const alpha = context.getImageData(0, 0, this.width, this.height).data, { ids } = this.labels;
    this.begin();
    for (let place = 0; place < ids.length; place++) {
      if (alpha[4 * place + 3] <= 127) continue;
      this.touched[place] = 1;
      ids[place] = this.painting;
    }
    this.paintOverlay();
    this.paintedNow();
  }

  /** @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
  stroke(x0, y0, x1, y1) {
    const labels = this.labels;
    if (!labels) return;
    const { ids, width, height } = labels, radius = this.brush, id = this.painting, erase = this.tool === "eraser";
    const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius - 2)), right = Math.min(width, Math.ceil(Math.max(x0, x1) + radius + 2));
    const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius - 2)), bottom = Math.min(height, Math.ceil(Math.max(y0, y1) + radius + 2));
    const dx = x1 - x0, dy = y1 - y0, squared = dx * dx + dy * dy;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const px = x + 0.5 - x0, py = y + 0.5 - y0;
        const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
        if (Math.hypot(px - along * dx, py - along * dy) > radius) continue;
        const place = y * width + x;
        this.touched[place] = 1;
        if (!erase) ids[place] = id; else if (ids[place] === id) ids[place] = 0;
      }
    }
    if (right > left && bottom > top) this.paintOverlay([left, top, right, bottom]);
  }

  /** @param {[number, number, number, number]} box @returns {[number, number, number, number]} */
  rect([x, y, width, height]) {
    return [Math.min(x, x + width), Math.min(y, y + height), Math.abs(width), Math.abs(height)];
  }

  /** @param {number} x @param {number} y */
  pan(x, y) { this.left += x; this.top += y; this.fitted = false; }

  /** @param {PointerEvent} event */
  pinch(event) {
    const [one, other] = [...this.pointers.values()];
    if (!one || !other) return;
    const still = one.pointerId === event.pointerId ? other : one, before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [x, y] = this.onScreen(still);
    this.pan((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
    this.zoom(Math.max(8, apart(event, still)) / Math.max(8, apart(before, still)), x, y);
  }

  /** Reverts the stroke or box that the first of two fingers began. */
  undraw() {
    if (this.gesture === "paint" && this.labels && this.before) {
      this.labels.ids.set(this.before);
      this.paintOverlay();
    }
    this.before = this.box = null;
    this.gesture = "";
    this.emit("rest");
    this.draw();
  }

  cancel() {
    const painted = this.gesture === "paint";
    this.box = null;
    this.polygon = [];
    this.gesture = "";
    if (painted) this.paintedNow();
    this.emit("rest");
    this.draw();
  }

  /** @param {string} name @param {object} [detail] @returns {boolean} whether no listener prevented it */
  emit(name, detail) { return this.dispatchEvent(new CustomEvent(name, { detail, cancelable: true })); }
}
