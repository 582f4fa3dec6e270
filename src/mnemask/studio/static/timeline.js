// The timeline: what is tracked, doubtful, marked and accepted, with a row for each object.

const RULER = 22, ROW = 26, RIGHT = 14, STATUS = 8;

export class TimelineView extends EventTarget {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {State | null} */
    this.state = null;
    /** @type {Timeline | null} */
    this.data = null;
    this.frame = 0;
    this.selected = this.revealed = 0;
    /** @type {number | null} */
    this.hover = null;
    this.drawing = this.seeking = false;
    new ResizeObserver(() => this.draw()).observe(/** @type {Element} */ (canvas.parentElement));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const row = this.rowAt(event);
      if (row !== null) this.dispatchEvent(new CustomEvent("select", { detail: row }));
      this.seeking = event.clientX - canvas.getBoundingClientRect().left >= this.left - 4; // the names are left of it
      if (this.seeking) this.seek(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.hover = this.frameAt(event);
      if (event.buttons && this.seeking) this.seek(event);
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
  }

  get bins() { return Math.max(50, Math.round(this.width - this.left - RIGHT)); }
  /** Where the timeline begins, right of the names. */
  get left() { return this.width < 620 ? 76 : 132; }
  get width() { return /** @type {HTMLElement} */ (this.canvas.parentElement).clientWidth; }

  /** @param {MouseEvent} event */
  frameAt(event) {
    const box = this.canvas.getBoundingClientRect(), count = this.state?.num_frames ?? 1;
    const share = (event.clientX - box.left - this.left) / (box.width - this.left - RIGHT);
    return Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  }

  /** @param {MouseEvent} event @returns {number | null} */
  rowAt(event) {
    const y = event.clientY - this.canvas.getBoundingClientRect().top - RULER;
    return this.state?.objects[Math.floor(y / ROW)]?.id ?? null;
  }

  /** @param {MouseEvent} event */
  seek(event) { this.dispatchEvent(new CustomEvent("seek", { detail: this.frameAt(event) })); }

  /** @param {number} frame */
  x(frame) { return this.left + (this.width - this.left - RIGHT) * (frame + 0.5) / (this.state?.num_frames ?? 1); }

  /** Scrolls to the row of the selected object. */
  reveal() {
    this.revealed = this.selected;
    const row = this.state?.objects.findIndex(({ id }) => id === this.selected) ?? -1, frame = this.canvas.parentElement;
    if (row < 0 || !frame) return;
    const top = RULER + row * ROW;
    frame.scrollTop = Math.min(row ? top : 0, Math.max(frame.scrollTop, top + ROW - frame.clientHeight));
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.paint(); });
  }

  paint() {
    const { canvas, context, state } = this, ratio = devicePixelRatio || 1, width = this.width;
    const rows = Math.max(1, state?.objects.length ?? 1), height = RULER + rows * ROW + STATUS + 4;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    if (this.revealed !== this.selected) this.reveal();
    const style = getComputedStyle(canvas), ink = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!state) return;
    this.ruler(ink, width);
    const usable = width - this.left - RIGHT;
    state.objects.forEach((object, row) => this.row(object, RULER + row * ROW, usable, ink));
    const bottom = RULER + rows * ROW + 2;
    context.fillStyle = ink("--track");
    context.fillRect(this.left, bottom, usable, 4);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    context.fillStyle = ink("--good");
    for (const [first, last] of state.accepted) {
      const from = this.x(first - 0.5), to = this.x(last + 0.5);
      context.fillRect(from, bottom, Math.max(2, to - from), 4);
    }
    const at = this.x(this.frame);
    context.fillStyle = ink("--text");
    context.fillRect(Math.round(at) - 1, 6, 2, height - 8);
    context.beginPath();
    context.moveTo(at - 6, 2);
    context.lineTo(at + 6, 2);
    context.lineTo(at, 11);
    context.fill();
    if (this.hover !== null) {
      context.globalAlpha = 0.4;
      context.fillRect(Math.round(this.x(this.hover)), RULER - 4, 1, height - RULER);
      context.globalAlpha = 1;
      context.fillStyle = ink("--muted");
      context.textAlign = "center";
      context.fillText(String(this.hover), Math.max(this.left + 12, Math.min(width - 20, this.x(this.hover))), 10);
    }
  }

  /** @param {(name: string) => string} ink @param {number} width */
  ruler(ink, width) {
    const { context } = this, state = /** @type {State} */ (this.state), usable = width - this.left - RIGHT;
    const least = state.num_frames * 64 / usable, power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
    const every = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 1;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    for (let frame = 0; frame < state.num_frames; frame += every) {
      const x = this.x(frame);
      context.fillStyle = ink("--line");
      context.fillRect(Math.round(x), RULER - 5, 1, 5);
      context.fillStyle = ink("--muted");
      if (Math.abs(x - this.x(this.frame)) > 16) context.fillText(String(frame), x, RULER - 8);
    }
  }

  /** @param {StudioObject} object @param {number} y @param {number} usable @param {(name: string) => string} ink */
  row(object, y, usable, ink) {
    const { context, data } = this, state = /** @type {State} */ (this.state), strip = ROW - 8, top = y + 4;
    if (object.id === this.selected) {
      context.fillStyle = ink("--hover");
      context.beginPath();
      context.roundRect(4, y + 1, this.left + usable + 4, ROW - 2, 6);
      context.fill();
    }
    context.fillStyle = object.color;
    context.beginPath();
    context.arc(18, y + ROW / 2, 5, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = ink("--text");
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "left";
    context.save();
    context.beginPath();
    context.rect(30, y, this.left - 40, ROW);
    context.clip();
    context.fillText(object.name, 30, y + ROW / 2 + 4);
    context.restore();
    context.fillStyle = ink("--track");
    context.beginPath();
    context.roundRect(this.left, top, usable, strip, 4);
    context.fill();
    const values = data?.objects[object.id];
    if (data && values) {
      const bin = usable / data.bins;
      for (let i = 0; i < data.bins; i++) {
        if (!data.known[i] || !values.area[i]) continue;
        const doubt = values.doubt[i], x = Math.round(this.left + i * bin), wide = Math.round(this.left + (i + 1) * bin) - x;
        context.globalAlpha = 0.55;
        context.fillStyle = object.color;
        const bar = 3 + (strip - 3) * 0.45 * Math.sqrt(values.area[i]);
        context.fillRect(x, top + strip - bar, wide, bar);
        if (doubt > 0.25) {
          context.globalAlpha = Math.min(1, 0.35 + doubt * 0.65);
          context.fillStyle = ink(doubt >= 0.5 ? "--bad" : "--warn");
          context.fillRect(x, top, Math.max(wide, 2), Math.max(3, strip * 0.6 * doubt));
        }
      }
      context.globalAlpha = 1;
      this.lost(data, values, top, strip, usable, ink);
    }
    for (const key of state.keys) {
      if (key.object_id === object.id) this.key(this.x(key.frame), top + strip / 2, ink);
    }
  }

  /** Marks where an object is missing after it was there.
   * @param {Timeline} data @param {{ doubt: number[]; area: number[] }} values @param {number} top @param {number} strip
   * @param {number} usable @param {(name: string) => string} ink */
  lost(data, values, top, strip, usable, ink) {
    const bin = usable / data.bins;
    this.context.fillStyle = ink("--bad");
    for (let i = 0; i < data.bins; i++) {
      if (data.known[i] && !values.area[i] && values.doubt[i] >= 0.5) this.context.fillRect(this.left + i * bin, top, Math.max(bin, 2), strip * 0.6);
    }
  }

  /** @param {number} x @param {number} y @param {(name: string) => string} ink */
  key(x, y, ink) {
    const { context } = this;
    context.beginPath();
    context.moveTo(x, y - 7);
    context.lineTo(x + 6, y);
    context.lineTo(x, y + 7);
    context.lineTo(x - 6, y);
    context.closePath();
    context.fillStyle = ink("--text");
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = ink("--panel");
    context.stroke();
  }
}
