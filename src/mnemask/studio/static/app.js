// The studio: keeps the page in sync with the server.

import { Api, Refused, ask, writeMask } from "./api.js";
import { KEYS, keyName } from "./keys.js";
import { TimelineView } from "./timeline.js";
import { Viewer } from "./viewer.js";

/** @template {HTMLElement} T @param {string} id @returns {T} */
const $ = (id) => /** @type {T} */ (document.getElementById(id));

const HEIGHTS = [480, 720, 1080, 2160, 4320];
const CACHED = 192 * 2 ** 20; // bytes of decoded frames
const COARSE = matchMedia("(pointer: coarse)"); // fingers rather than a mouse
const LEAST = 12; // the fewest frames in the cache, of any size

class Studio {
  constructor() {
    this.view = new Viewer($("view"));
    this.time = new TimelineView($("timeline"));
    /** @type {Api | null} */
    this.api = null;
    /** @type {State | null} */
    this.state = null;
    this.version = 0; // that of the state
    /** @type {Workspace | null} */
    this.workspace = null;
    this.frame = 0;
    this.selected = 0;
    this.minus = false;
    this.playing = false;
    this.plays = 0; // how often playing began or ended
    this.why = false;
    /** @type {Map<string, Promise<ImageBitmap>>} by frame and height */
    this.pictures = new Map();
    this.shownHeight = 0;
    /** @type {Job | null} */
    this.job = null;
    this.follows = true; // whether the view follows tracking
    this.wanted = -1; // the frame to show after the one that is loading
    this.coming = 0; // the frame that is loading
    /** @type {number | null} */
    this.missed = null; // the frame that was last gone to and could not be shown
    this.loading = false;
    /** @type {() => void} */
    this.hurry = () => {}; // ends the wait of the frame that is loading: another one may be wanted
    this.led = false; // whether tracking or playing shows that frame, not the user
    this.busy = this.edits = 0; // edits in progress, and all so far
    /** @type {number[]} */
    this.drawnIn = []; // the frames with masks that those in progress change
    this.starting = false; // whether an export was requested and not yet answered
    this.drawing = false; // whether a picture of the memory was requested and not yet answered
    this.opens = 0; // projects chosen so far
    this.opening = false; // whether the first frame of a video is still to be shown
    this.sheets = 0; // pictures of the memory so far, including abandoned ones
    this.unsaved = false; // whether an edit got no answer and is not kept
    /** @type {Map<string, Unanswered>} what was drawn and got no answer, by video, frame and object */
    this.unanswered = new Map();
    this.failed = ""; // why the last job ended, if the user was told
    this.held = false; // whether an update waits until a stroke or a box is drawn
    /** @type {Making | null} */
    this.making = null; // the object that is being created: none is selected until it is there, and what is drawn belongs to it
    /** @type {Promise<unknown>} */
    this.queue = Promise.resolve(); // edits run one after another
    /** @type {() => void} */
    this.leave = () => {};
    this.timelineWanted = false;
    /** @type {Promise<unknown>} */
    this.timeline = Promise.resolve(); // when the timeline that was requested last is shown
    this.timelines = this.timelineShown = 0; // how many were requested, and which of them is shown
    this.shownObjects = "";
    this.shownKey = "";
    this.preparing = this.toasting = 0;
    this.prepares = false; // whether a frame is being prepared for clicks
  }

  // ---- opening ------------------------------------------------------------------------------------------------

  async start() {
    for (const part of document.querySelectorAll(".tools, .panel, footer.time")) part.toggleAttribute("inert", true); // until a video is open
    this.workspace = await (await ask("/api/workspace")).json();
    for (const policy of this.workspace?.policies ?? []) $("policy").append(new Option(policy, policy));
    this.buildFormats();
    const name = decodeURIComponent(location.hash.slice(1));
    if (name && this.workspace?.projects.includes(name)) await this.open(name);
    else if (this.workspace?.projects.length === 1) await this.open(this.workspace.projects[0]);
  }

  /** Opens a project; of several that are chosen before one is open, the last. @param {string | Promise<string>} chosen its name */
  async open(chosen) {
    const number = ++this.opens;
    try {
      const name = await chosen, api = new Api(name);
      await this.queue;
      if (number !== this.opens) return;
      this.note("Opening …", "busy"); // a long video is indexed first
      const state = await api.state();
      if (number === this.opens) await this.enter(name, api, state);
    } catch (error) { if (number === this.opens) throw error; }
  }

  /** @param {string} name @param {Api} api @param {State} state */
  async enter(name, api, state) {
    this.view.cancel(); // what is being drawn belongs to the video that is left
    this.leave();
    this.playing = this.unsaved = false;
    this.opening = true;
    this.job = this.time.data = this.missed = this.making = null;
    this.failed = "";
    $("speed").textContent = $("held").textContent = $("export-result").textContent = "";
    this.pictures.clear();
    this.shownHeight = Infinity; // until its first frame is shown
    this.api = api;
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
    this.frame = Math.min(this.frame, state.num_frames - 1);
    try { this.frame = Math.min(state.num_frames - 1, Number(localStorage.getItem(`frame:${name}`)) || 0); } catch { /* private mode */ }
    this.shownKey = "";
    this.version = 0;
    this.view.setVideo(state.width, state.height, state.pixel_aspect);
    this.view.hidden.clear();
    this.selected = state.objects[0]?.id ?? 0;
    $("welcome").hidden = true;
    document.body.className = "";
    for (const part of document.querySelectorAll("[inert]")) part.toggleAttribute("inert", false);
    document.title = `${state.video} · mnemask studio`;
    this.take(state);
    this.leave = api.listen((event) => this.hear(event));
    await this.go(this.frame);
    if (state.job?.error) this.complain(state.job.error); // replaces messages from opening the frame
    else if (state.notes.length) this.complain(state.notes.join(" "), true);
  }

  /** @param {State | Job | null} event */
  hear(event) {
    if (!event) {
      this.job = null;
      this.version = 0; // a studio that was restarted begins anew
      $("speed").textContent = "";
      this.render();
      this.note("Connection lost, reconnecting …", "lost");
      fetch("/api/workspace").then(({ status }) => {
        if (status === 403) this.note("The studio was restarted: open the address that it printed", "lost");
      }, () => {});
      return;
    }
    if (event.type === "state") { this.sendAgain(); this.take(event); }
    else this.takeJob(event);
  }

  /** @param {State} state @param {Api | null} [api] the API of its video */
  take(state, api = this.api) {
    if (api !== this.api || state.version <= this.version) return; // outdated: answers and events may overtake each other
    this.version = state.version;
    const before = this.state;
    this.state = state;
    this.time.state = state;
    this.view.objects = new Map(state.objects.map((object) => [object.id, object]));
    for (const id of this.view.hidden) if (!this.view.objects.has(id)) this.view.hidden.delete(id); // a later object may reuse the id
    if (!this.making && !this.view.objects.has(this.selected)) {
      const { selected } = this;
      this.selected = state.objects.at(-1)?.id ?? 0;
      if (this.selected !== selected) this.showKey();
    }
    if (state.job) this.takeJob(state.job);
    const look = (/** @type {State | null} */ s) => s && JSON.stringify([s.objects, s.keys, s.coverage, s.accepted]);
    if (before?.name !== state.name || String(before.exports) !== String(state.exports)) this.renderExports(state);
    if (look(before) !== look(state)) { this.refresh(); this.loadTimeline(); }
    this.render();
    this.settle();
  }

  /** @param {Job} job */
  takeJob(job) {
    const { job: before } = this, was = before?.running;
    this.job = job;
    if (job.running) this.failed = "";
    else if (job.error && job.error !== this.failed) this.complain(this.failed = job.error);
    if (job.kind === "track") {
      if ((job.running || was) && job.frame != null) this.follow(job.frame);
      if ((!job.running && was) || this.passed(before, job)) this.refresh();
      if (!job.running && was) {
        this.loadTimeline();
        if (job.warnings?.length && !job.error) this.complain(job.warnings.slice(0, 3).join(" · "));
      }
      $("speed").textContent = job.running ? progress(job) : "";
      if (job.bank_bytes) $("held").textContent = `${(job.tokens ?? 0).toLocaleString("en")} tokens, ${(job.bank_bytes / 2 ** 20).toFixed(1)} MiB`;
      if (job.running && job.frames && job.frames % 8 === 0) this.loadTimeline();
    } else {
      this.renderExport(job);
      $("speed").textContent = job.running ? `Exporting ${Math.round(100 * (job.done ?? 0) / (job.total ?? 1))} %` : "";
      if (was && !job.running && !dialog("export-dialog").open && !job.error) this.complain(job.stopped ? "Your change stopped the export. Start it again." : ["The export is ready: Ctrl+E.", ...(job.warnings ?? [])].join(" "), !job.stopped);
    }
    this.renderBusy();
  }

  /** Whether tracking reached or passed the shown frame between two events. @param {Job | null} before @param {Job} job */
  passed(before, { number, start = 0, step = 1, frame }) {
    if (frame == null) return false;
    const from = before?.number === number && before?.frame != null ? before.frame : start - step;
    return step * from < step * this.frame && step * this.frame <= step * frame;
  }

  /** Whether frames are being tracked. */
  get tracking() { return !!this.job?.running && this.job.kind === "track"; }

  // ---- frames -------------------------------------------------------------------------------------------------

  get height() {
    const need = this.view.height * this.view.scale * (devicePixelRatio || 1);
    return Math.min(this.view.height, HEIGHTS.find((height) => height >= need) ?? 4320);
  }

  /** @param {number} frame @returns {Promise<ImageBitmap>} */
  picture(frame) {
    const api = /** @type {Api} */ (this.api), { height } = this, name = `${frame}:${height}`;
    let found = this.pictures.get(name);
    if (found) this.pictures.delete(name);
    else { found = api.picture(frame, height); found.catch(() => this.pictures.delete(name)); }
    this.pictures.set(name, found);
    const most = Math.max(LEAST, CACHED / (4 * height ** 2 * this.view.width / this.view.height));
    for (const [old, picture] of this.pictures) {
      if (this.pictures.size <= most) break;
      this.pictures.delete(old);
      picture.then((bitmap) => { if (bitmap !== this.view.picture) bitmap.close(); }, () => {}); // frees memory outside the JavaScript heap
    }
    return found;
  }

  /**
   * Shows a frame; of several that are requested while one loads, only the last.
   * @param {number} frame @param {boolean} [led] whether tracking or playing goes there; ends when the user does something
   */
  async go(frame, led = false) {
    if (!this.state || !this.api) return;
    this.led = led;
    this.wanted = Math.max(0, Math.min(this.state.num_frames - 1, frame));
    this.time.frame = this.wanted;
    this.time.draw();
    if (this.loading) { this.hurry(); return; }
    if (this.view.drawingShape) { this.held = true; this.wanted = -1; return; }
    this.loading = true;
    while (this.wanted >= 0) {
      const next = this.coming = this.wanted;
      /** @type {Api} */
      const api = this.api, { height } = this;
      this.wanted = -1;
      try {
        const coming = this.picture(next);
        while (this.drawnIn.includes(next) && this.wanted < 0) { // read its masks after what was drawn there is saved
          await Promise.race([this.queue, new Promise((/** @type {(value?: unknown) => void} */ done) => { this.hurry = done; })]);
        }
        if (this.wanted >= 0) continue;
        const { edits } = this, [picture, labels] = await Promise.all([coming, api.labels(next)]);
        if (api !== this.api || next !== this.coming) continue;
        if (this.view.drawingShape) { this.held = true; this.wanted = -1; break; } // what is drawn belongs to the shown frame
        if (next === this.frame && this.view.labels && edits !== this.edits) { this.refresh(); continue; } // these masks lack what was drawn meanwhile
        const newer = next === this.frame && this.waitsIn(next) ? this.view.labels : null;
        if (next !== this.frame) this.missed = null;
        this.frame = next;
        this.shownHeight = height;
        this.showKey();
        this.view.show(picture, newer ?? labels);
        this.render();
        if (labels.notes?.length) this.complain(labels.notes.join(" "));
      } catch (error) {
        this.playing = false;
        if (this.wanted < 0 && next === this.coming) this.missed = next;
        this.complain(error);
      }
    }
    this.loading = false;
    if (this.opening) { this.opening = false; this.settle(); }
    this.render(); // also if the requested frame cannot be shown
    try { localStorage.setItem(`frame:${this.state.name}`, String(this.frame)); } catch { /* private mode */ }
    this.prepare();
  }

  /** The frame that is shown or about to be shown. */
  get at() { return this.wanted >= 0 ? this.wanted : this.loading ? this.coming : this.frame; }

  /** The frame from which the user goes on: the next one lies behind a frame that cannot be shown. */
  get from() { return this.missed ?? this.at; }

  /** Reloads the masks of the shown frame. */
  refresh() { if (this.api && this.wanted < 0) this.go(this.at, this.led); }

  /** @param {number} frame */
  follow(frame) { if (this.follows && frame !== this.frame) this.go(frame, true); }

  /** Stays at the shown frame: the user does something there. */
  stay() {
    this.follows = this.playing = false;
    this.missed = null;
    if (!this.led || !this.view.labels) return; // the first frame is still to be shown
    this.led = false;
    this.coming = this.frame;
    this.wanted = -1;
  }

  /** Goes where the user wants to look, and stays there while tracking continues. @param {number} frame */
  seek(frame) {
    this.follows = this.playing = false;
    this.missed = null;
    this.view.cancel(); // the corners of a polygon belong to their frame
    return this.go(frame);
  }

  prepare() {
    clearTimeout(this.preparing);
    if (this.view.tool !== "click" || this.job?.running || this.playing || this.prepares) return;
    this.preparing = setTimeout(async () => {
      const { api, frame } = this;
      this.prepares = true;
      try { await api?.post("/prepare", { frame }); } catch { /* the first click there does it */ }
      this.prepares = false;
      if (api !== this.api || frame !== this.frame) this.prepare(); // of the frames gone to meanwhile, only the last
    }, 150);
  }

  async play() {
    if (this.tracking) { this.stop(); return; }
    this.playing = !this.playing;
    this.renderBusy();
    const run = ++this.plays, pace = 1000 / (this.state?.fps || 25);
    const last = (this.state?.num_frames ?? 0) - 1;
    let shown = this.frame < last ? this.frame : -1; // at the last frame, playing begins again
    while (this.playing && run === this.plays && this.state && shown < last) {
      const begin = performance.now(), next = shown + 1;
      for (let ahead = 1; ahead < 6 && next + ahead < this.state.num_frames; ahead++) this.picture(next + ahead).catch(() => {});
      await this.go(next, true);
      if (this.frame === next) shown = next;
      await new Promise((done) => setTimeout(done, Math.max(0, pace - (performance.now() - begin))));
    }
    if (run !== this.plays) return;
    this.playing = false;
    this.renderBusy();
  }

  loadTimeline() { if (!this.timelineWanted) this.timeline = this.readTimeline(); }

  async readTimeline() {
    if (!this.api) return;
    this.timelineWanted = true;
    await new Promise((done) => setTimeout(done, 120));
    this.timelineWanted = false;
    const { api } = this, number = ++this.timelines;
    try {
      const data = await api.timeline(this.time.bins);
      if (api !== this.api || number < this.timelineShown) return; // of another video, or outdated
      this.timelineShown = number;
      this.time.data = data;
      this.time.draw();
      this.render();
    } catch { /* the next change requests it again */ }
  }

  // ---- what the user does ---------------------------------------------------------------------------------------

  /**
   * Runs one edit after another, and shows that it is saved or why not.
   * @param {(api: Api) => Promise<unknown>} work @param {Drawn} [drawn] the mark that it changes; kept if there is no answer
   * @param {Api | null} [api] the API of its video
   */
  edit(work, drawn, api = this.api) {
    if (!api) return Promise.resolve();
    this.busy++;
    this.edits++;
    const mark = drawn ? `${api.base}:${drawn.frame}:${drawn.object}` : "";
    if (drawn) this.drawnIn.push(drawn.frame);
    let all = work;
    const before = () => { // unanswered drawing there has to run before this edit, or is replaced by it
      const kept = this.unanswered.get(mark), own = all;
      if (kept && !drawn?.whole) all = async (api) => {
        await kept.work(api).catch((error) => { if (error.unanswered) throw error; this.complain(error); }); // a refusal of that is none of this
        await own(api);
      };
      this.unanswered.delete(mark);
    };
    before();
    this.stay();
    $("toast").hidden = true;
    this.note("Saving …", "busy");
    const done = this.queue.then(() => { before(); return all(api); }).then(() => {
      this.unsaved = false;
      this.sendAgain();
    }, (error) => {
      const unanswered = error instanceof Refused && error.unanswered;
      if (drawn && unanswered) this.unanswered.set(mark, { work: all, drawn, api }); // stays visible
      else { this.unsaved ||= unanswered; this.refresh(); } // what was refused is no longer shown
      this.complain(error);
    }).finally(() => {
      this.busy--;
      if (drawn) this.drawnIn.shift();
      this.settle();
    });
    this.queue = done;
    return done;
  }

  /** Sends unanswered edits again, now that the server responds. */
  sendAgain() {
    const kept = [...this.unanswered.values()];
    this.unanswered.clear();
    for (const { work, drawn, api } of kept) this.edit(work, drawn, api);
  }

  /** Whether something is not saved and not being saved. */
  get lacking() { return this.unsaved || this.unanswered.size > 0; }

  /** Whether something that was drawn in a frame got no answer: the server's masks lack it. @param {number} frame */
  waitsIn(frame) { return [...this.unanswered.values()].some(({ drawn, api }) => api === this.api && drawn?.frame === frame); }

  /** Shows whether everything is saved, once a video is open and no edit is in progress. */
  settle() { if (!this.busy && !this.opening) this.note(this.lacking ? "Not saved" : "Saved", this.lacking ? "lost" : ""); }

  /** @param {object} action */
  act(action) { return this.edit(async (api) => this.take(await api.act(action), api)); }

  /** Undoes or redoes an action, and shows which. @param {"undo" | "redo"} which */
  turn(which) {
    return this.edit(async (api) => {
      const state = await api.act({ do: which }), { turned } = state;
      this.take(state, api);
      if (!turned || api !== this.api) return;
      const id = turned.object ?? turned.id;
      if (id !== undefined && this.view.objects.has(id) && !this.making) this.select(id);
      if (turned.frame !== undefined && turned.frame !== this.at) this.seek(turned.frame);
      this.complain(`${which === "undo" ? "Undone" : "Redone"}: ${named(turned)}.`, true);
    });
  }

  newObject() {
    if (!this.api) return;
    if (this.making) this.making.only = false;
    this.select(0);
    this.making = { id: 0, only: false };
    this.ensureObject();
  }

  /** @param {number} id */
  select(id) {
    if (this.making) this.shownKey = ""; // the shown clicks are those of the object that is being created
    this.making = null;
    this.selected = id;
    this.showKey();
    this.view.paintOverlay();
    this.render();
    this.markSelected();
  }

  /** Marks the selected object in the list without rebuilding it: the user may be typing in one of its fields. */
  markSelected() {
    for (const row of /** @type {HTMLElement[]} */ ([...$("objects").children])) {
      const on = row.dataset.id === String(this.selected);
      row.className = on ? "on" : "";
      if (on) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
      if (on) row.scrollIntoView({ block: "nearest" });
    }
  }

  /** The id of the selected object, or of the one that is being created; 0 if that was refused. */
  async ensureObject() {
    const object = this.chosen();
    let id = 0;
    await this.edit(async (api) => { id = await object(api); });
    return id;
  }

  /** What gives, within an edit, the id of the object that is selected now, or of the one that is being created. @returns {(api: Api) => Promise<number>} */
  chosen() {
    const { selected } = this;
    if (selected) return async () => selected;
    const making = this.making ??= { id: 0, only: true };
    return (api) => this.made(making, api);
  }

  /** The id of an object that is being created; asked for again if that was refused or not answered. @param {Making} making @param {Api} api */
  async made(making, api) {
    if (making.id) return making.id;
    let state = making.only ? await api.state() : null;
    if (!state?.objects.length) state = await api.act({ do: "add_object" });
    const { id } = state.objects[state.objects.length - 1];
    making.id = id;
    this.take(state, api);
    if (this.making === making) {
      this.making = null;
      this.shownKey = `${this.frame}:${id}`; // the shown clicks are its own
      this.select(id);
    }
    return id;
  }

  /** @param {{ x: number; y: number; near: number; minus: boolean }} tap */
  click(tap) {
    if (!this.api) return;
    if (this.why) { this.explain(tap.x, tap.y); return; }
    if (!this.workable()) return;
    const old = this.view.points[tap.near], off = this.minus !== tap.minus;
    /** @type {Point} */
    const point = [Math.floor(tap.x * 10) / 10, Math.floor(tap.y * 10) / 10, off ? 0 : 1];
    if (!old && off && !this.view.points.length && !this.keyNow()?.how.box && !(this.selected && this.view.labels?.ids.includes(this.selected))) {
      this.complain("The first click must be on the object; later ones can remove parts of it.");
      return;
    }
    const is = (/** @type {Point} */ one) => (/** @type {Point} */ other) => String(one) === String(other);
    /** @type {boolean | undefined} */
    let removes; // decided once: this may be sent again after it was done
    const change = (/** @type {Point[]} */ points) => {
      removes ??= !!old && points.some(is(old)); // it may have been undone since
      return removes ? points.filter((other) => !is(old)(other)) : points.some(is(point)) ? points : [...points, point];
    };
    this.view.points = old ? this.view.points.filter((other) => other !== old) : [...this.view.points, point];
    this.view.draw();
    this.point((points, box) => [change(points), box]);
  }

  /** @param {number[]} box */
  box(box) { if (this.workable()) this.point((points) => [points, box]); }

  /**
   * Marks the selected object by clicks and a box.
   * @param {(points: Point[], box: number[] | null) => [Point[], number[] | null]} change what becomes of those that the mark has once all earlier edits are done
   */
  point(change) {
    const { frame, selected } = this, chosen = this.chosen();
    this.edit(async (api) => {
      const object = await chosen(api), state = await api.state();
      const how = state.keys.find((key) => key.frame === frame && key.object_id === object)?.how;
      const [points, box] = change(how?.points ?? [], how?.box ?? null);
      this.showLabels(frame, await api.click({ frame, object, points, box }), api);
    }, { frame, object: selected });
  }

  /** @param {number} frame @param {Labels} labels @param {Api} api */
  showLabels(frame, labels, api) {
    if (api !== this.api || frame !== this.frame) return;
    if (this.busy > 1 || this.view.drawingShape) this.refresh(); // these masks lack later drawing
    else this.view.setLabels(labels);
  }

  /** @param {{ tool: Tool; object: number; touched: Uint8Array }} stroke */
  painted({ tool, object, touched }) {
    const { frame, view: { width, height } } = this, runs = writeMask(touched, width, height);
    this.view.points = [];
    this.edit(async (api) => {
      this.take(await api.paint(frame, object, tool, runs, tool === "eraser" ? "remove" : "add"), api);
      this.refresh(); // also if it changed no pixel
    }, { frame, object });
  }

  /** Whether the masks of this frame may change. */
  workable() {
    if (!this.isAccepted()) return true;
    this.complain("This frame was accepted, so it does not change. Press A to unaccept it.");
    return false;
  }

  isAccepted() { return !!this.state?.accepted.some(([first, last]) => first <= this.frame && this.frame <= last); }

  accept() {
    if (this.api) this.act({ do: this.isAccepted() ? "unaccept" : "accept", first: this.frame, last: this.frame });
  }

  acceptTo() {
    if (!this.state) return;
    const run = this.state.accepted.find(([start, end]) => start <= this.frame && this.frame <= end);
    if (run) { this.act({ do: "unaccept", first: run[0], last: run[1] }); return; }
    this.act({ do: "accept", first: 0, last: this.frame });
  }

  absent() {
    if (!this.state || !this.selected || !this.workable()) return;
    const { width, height } = this.state, frame = this.frame, object = this.selected;
    const empty = writeMask(new Uint8Array(width * height), width, height);
    this.edit(async (api) => { this.take(await api.paint(frame, object, "absent", empty, "set"), api); this.refresh(); }, { frame, object, whole: true });
  }

  clear() { if (this.keyNow()) this.act({ do: "clear_key", frame: this.frame, object_id: this.selected }); }

  /** @param {string} direction @param {number} [start] @param {number} [to] */
  async track(direction, start = this.frame, to) {
    if (!this.api) return;
    if (!this.state?.keys.length) { this.complain("Mark an object first: click on it in the picture."); return; }
    const { api } = this;
    this.playing = false;
    $("toast").hidden = true;
    await this.queue;
    this.follows = true;
    try { await api.post("/track", { start, direction, to: to ?? null }); } catch (error) { this.complain(error); }
  }

  trackHere() {
    const keys = this.keyFrames().filter((frame) => frame < this.frame);
    const after = this.keyFrames().find((frame) => frame > this.frame);
    if (keys.length) this.track("forward", keys.at(-1), this.frame);
    else if (after !== undefined) this.track("backward", after, this.frame);
    else this.complain("There is no marked frame before this one to start from.");
  }

  async stop() { try { await this.api?.post("/stop", {}); } catch (error) { this.complain(error); } }

  keyFrames() { return [...new Set(this.state?.keys.map((key) => key.frame))].sort((a, b) => a - b); }

  /** @param {number} way */
  jumpKey(way) { this.jump(this.keyFrames(), way); }

  /** @param {number} way */
  async jumpDoubt(way) {
    const { api } = this;
    await this.timeline; // the shown one may be from before the last edit
    if (api !== this.api) return;
    const frames = this.time.data?.doubtful ?? [];
    if (!frames.length) this.complain(this.whyNoDoubt(), true);
    this.jump(frames, way);
  }

  whyNoDoubt() {
    const objects = this.state?.objects ?? [];
    if (!objects.some(({ id }) => this.coverage(id).tracked)) return "Nothing is tracked yet.";
    const gaps = objects.filter(({ id }) => this.coverage(id).untracked).map(({ id, name }) => `${name} is not tracked in ${frames(this.coverage(id).untracked)}`);
    return gaps.length ? `${gaps.join(", ")}.` : "No doubtful frames: all masks look certain and stable.";
  }

  /** Goes to the next of some frames; after the last, to the first. @param {number[]} frames @param {number} way */
  jump(frames, way) {
    if (!frames.length) return;
    const next = way > 0 ? frames.find((frame) => frame > this.from) : frames.filter((frame) => frame < this.from).at(-1);
    this.seek(next ?? frames.at(way > 0 ? 0 : -1) ?? 0);
    if (next === undefined) this.complain(`From the ${way > 0 ? "start" : "end"} again.`, true);
  }

  /** @param {number} id @returns {Coverage} */
  coverage(id) { return this.state?.coverage[id] ?? { tracked: 0, untracked: 0, before: 0 }; }

  keyNow() { return this.state?.keys.find((key) => key.frame === this.frame && key.object_id === this.selected); }

  showKey() {
    this.view.selected = this.selected;
    this.time.selected = this.selected;
    const place = `${this.frame}:${this.selected}`, same = place === this.shownKey;
    this.shownKey = place;
    if (same && this.drawnIn.includes(this.frame)) return; // the current clicks are newer than the server's state
    this.view.points = (this.keyNow()?.how.points ?? []).map(([x, y, on]) => [x, y, on ? 1 : 0]);
  }

  /** @param {number} x @param {number} y */
  explain(x, y) {
    this.setWhy(false);
    this.sheet(`Why pixel ${Math.floor(x)}, ${Math.floor(y)} of frame ${this.frame}`, `&x=${Math.floor(x)}&y=${Math.floor(y)}`);
  }

  /** @param {string} title @param {string} [more] */
  async sheet(title, more = "") {
    if (!this.api) return;
    const number = ++this.sheets; // the server draws only the last one requested
    this.drawing = true; // may take a while if no tracker state is near
    this.note("Drawing … (Esc stops)", "busy");
    try {
      const answer = await this.api.ask(`/memory?frame=${this.frame}${more}`), picture = await answer.blob();
      if (number !== this.sheets) return;
      const image = /** @type {HTMLImageElement} */ ($("sheet"));
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(picture);
      image.alt = title;
      $("picture-title").textContent = title;
      dialog("picture-dialog").showModal();
    } catch (error) { if (number === this.sheets) this.complain(error); }
    if (number === this.sheets) this.leaveSheet();
  }

  /** Stops waiting for a picture of the memory. */
  leaveSheet() {
    this.sheets++;
    this.drawing = false;
    this.settle();
  }

  /** @param {boolean} on */
  setWhy(on) {
    this.why = this.view.asking = on;
    $("why").setAttribute("aria-pressed", String(on));
    this.showCursor();
    this.render();
  }

  showCursor() {
    const tool = this.view.acting;
    $("view").className = tool === "pan" ? "pan" : tool === "brush" || tool === "eraser" ? "paint" : "aim";
  }

  /** @param {Tool} tool */
  setTool(tool) {
    this.view.cancel();
    this.view.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.tool === tool));
    $("size-label").hidden = tool !== "brush" && tool !== "eraser";
    this.setWhy(false);
    this.prepare();
  }

  /** @param {boolean} minus */
  setMinus(minus) {
    this.minus = minus;
    $("plus").setAttribute("aria-pressed", String(!minus));
    $("minus").setAttribute("aria-pressed", String(minus));
    this.render();
  }

  /** @param {number} radius */
  setBrush(radius) {
    this.view.brush = Math.min(120, Math.max(1, radius));
    /** @type {HTMLInputElement} */ ($("size")).value = String(this.view.brush);
    this.view.draw();
  }

  /** @param {number} id */
  toggle(id) {
    if (!this.view.hidden.delete(id)) this.view.hidden.add(id);
    this.view.paintOverlay();
    this.view.draw();
    this.renderObjects();
  }

  // ---- what the user sees ---------------------------------------------------------------------------------------

  /** @param {string} text @param {string} [kind] */
  note(text, kind = "") { $("saved").textContent = text; $("saved").className = `saved ${kind}`; }

  /** @param {unknown} error @param {boolean} [calm] */
  complain(error, calm = false) {
    if (!(error instanceof Refused) && error instanceof Error) console.error(error);
    const toast = $("toast"), text = error instanceof Error ? error.message : String(error);
    toast.textContent = text[0].toUpperCase() + text.slice(1);
    if (!calm) toast.append(iconButton("close", "Dismiss (Esc)", () => { toast.hidden = true; }));
    toast.style.borderColor = calm ? "var(--line)" : "";
    (document.querySelector("dialog[open]") ?? document.body).append(toast); // a dialog would cover it
    toast.hidden = false;
    clearTimeout(this.toasting);
    if (calm) this.toasting = setTimeout(() => { toast.hidden = true; }, 6000); // an error stays: the user may not be looking
  }

  render() {
    const state = this.state;
    if (!state) return;
    $("video-name").textContent = state.video;
    /** @type {HTMLButtonElement} */ ($("undo")).disabled = !state.undo;
    /** @type {HTMLButtonElement} */ ($("redo")).disabled = !state.redo;
    $("frame-number").textContent = String(this.frame);
    const clock = $("clock"), seconds = state.fps ? ` · ${time(this.frame / state.fps)}` : "";
    const field = /** @type {HTMLInputElement} */ ($("goto"));
    if (document.activeElement !== field) field.value = String(this.frame);
    field.max = String(state.num_frames - 1);
    clock.textContent = `/ ${state.num_frames - 1}${seconds}`;
    const slider = $("timeline");
    slider.setAttribute("aria-valuemax", String(state.num_frames - 1));
    slider.setAttribute("aria-valuenow", String(this.frame));
    this.renderObjects();
    this.renderFrame(state);
    this.renderSettings(state.settings);
    this.renderBusy();
    this.time.selected = this.selected;
    this.time.frame = this.at;
    this.time.draw();
  }

  /** @param {State} state */
  hint(state) {
    const { cross, aiming } = this.view;
    if (cross && aiming) return `${Math.round(cross[0])}, ${Math.round(cross[1])} · arrows move, ${this.pressHint()}, Esc leaves`;
    if (this.why) return "Click on a pixel to see which tokens it was read from";
    if (this.tracking) return "Tracking: Space pauses";
    const { tool } = this.view, { tracked } = this.coverage(this.selected), marked = state.keys.some((key) => key.object_id === this.selected);
    if (tool === "polygon") return "Click on the corners; Enter or the first corner closes the polygon";
    if (tool === "click" && !marked && !tracked) return "Click on the object you want to cut out";
    if (tool === "click" && !tracked) return COARSE.matches ? "− removes; when the mask fits, tap Track" : "Right-click removes; when the mask fits, press T to track";
    if (tool === "click" && this.minus) return "Clicks remove";
    return "";
  }

  /** The effect of Enter and Space in the picture. */
  pressHint() {
    if (this.why) return "Enter shows why";
    const { tool } = this.view;
    if (tool === "polygon") return "Space sets a corner, Enter closes";
    if (tool === "box") return "Enter sets the first corner, then the opposite one";
    if (tool === "brush" || tool === "eraser") return `Enter ${tool === "brush" ? "paints" : "erases"}`;
    return "Enter clicks on the object, Shift+Enter off it";
  }

  renderObjects() {
    const list = $("objects"), state = /** @type {State} */ (this.state);
    $("no-objects").hidden = state.objects.length > 0;
    const editing = list.contains(document.activeElement) && document.activeElement instanceof HTMLInputElement;
    const shown = JSON.stringify([state.objects, this.selected, [...this.view.hidden]]);
    if (editing || this.shownObjects === shown) return;
    this.shownObjects = shown;
    list.replaceChildren(...state.objects.map((object) => this.objectRow(object)));
    this.markSelected();
    const classes = [...new Set(state.objects.map((object) => object.category).filter(Boolean))];
    $("classes").replaceChildren(...classes.map((name) => new Option(name, name)));
  }

  /** @param {StudioObject} object */
  objectRow(object) {
    const row = document.createElement("li");
    row.dataset.id = String(object.id);
    const change = (/** @type {object} */ what) => this.act({ do: "update_object", object_id: object.id, ...what });
    const color = input("color", object.color, `Colour of ${object.name}`, (value) => change({ color: value }));
    const names = document.createElement("div");
    names.className = "names";
    const name = input("text", object.name, `Name of object ${object.id}`, (value) => change({ name: value || `Object ${object.id}` }));
    const kind = input("text", object.category, `Class of ${object.name}`, (value) => change({ category: value }));
    kind.placeholder = "class";
    kind.setAttribute("list", "classes");
    kind.classList.add("category");
    names.append(name, kind);
    names.addEventListener("focusin", () => { if (this.selected !== object.id) this.select(object.id); });
    const hidden = this.view.hidden.has(object.id);
    const eye = iconButton(hidden ? "eye-off" : "eye", hidden ? `Show ${object.name}` : `Hide ${object.name}`, () => this.toggle(object.id));
    const gone = iconButton("trash", `Delete ${object.name}`, async () => {
      await this.act({ do: "remove_object", object_id: object.id });
      if (!this.view.objects.has(object.id)) this.complain(`${object.name} was deleted. Ctrl+Z restores it.`, true);
    });
    row.append(color, names, eye, gone);
    return row;
  }

  /** @param {State} state */
  renderFrame(state) {
    const key = this.keyNow(), accepted = this.isAccepted(), { labels } = this.view;
    const known = labels?.known?.includes(this.selected), doubt = labels?.doubt?.[this.selected] ?? 0;
    const live = this.follows && this.tracking ? this.job?.confidence?.[this.selected] : undefined;
    const [text, kind] = live ? ["tracking", "good"] : accepted ? ["accepted", "good"] : key ? ["marked", "key"] : !known ? ["not tracked", ""]
      : doubt >= 0.5 ? ["doubtful", "bad"] : ["tracked", ""];
    $("badge").textContent = text;
    $("badge").className = `badge ${kind}`;
    $("timeline").setAttribute("aria-valuetext", `${this.frame}, ${text}`);
    const facts = $("facts");
    /** @type {[string, string][]} */
    const rows = [];
    if (live) rows.push(["Certainty", `${Math.round(live[0] * 100)} %`], ["Area", `${live[1].toLocaleString("en")} px`]);
    else if (known && !key) rows.push(["Doubt", `${Math.round(doubt * 100)} %`]);
    if (key) rows.push(["Marked by", key.how.tool ?? "API"]);
    if (!live && this.selected) rows.push(["Tracked", `${this.coverage(this.selected).tracked} of ${frames(state.num_frames)}`]);
    facts.replaceChildren(...rows.flatMap(([term, value]) => [element("dt", term), element("dd", value)]));
    $("accept").querySelector("span")?.replaceChildren(accepted ? "Unaccept" : "Accept");
    $("accept-to").textContent = accepted ? "The whole run" : "Up to here";
    /** @type {HTMLButtonElement} */ ($("clear")).disabled = !key || accepted;
    /** @type {HTMLButtonElement} */ ($("absent")).disabled = !this.selected || accepted;
  }

  /** @param {Settings} settings */
  renderSettings(settings) {
    const set = (/** @type {string} */ id, /** @type {unknown} */ value) => {
      const field = /** @type {HTMLInputElement} */ ($(id));
      if (document.activeElement !== field) field.value = value === null ? "" : String(value);
    };
    set("policy", settings.policy);
    set("budget", settings.frames);
    set("short-side", settings.size);
    set("every", settings.write_every);
  }

  renderBusy() {
    const { tracking } = this, none = !this.state;
    $("stop").hidden = !tracking;
    for (const id of ["track", "track-both", "track-back", "track-here"]) {
      $(id).hidden = tracking;
      /** @type {HTMLButtonElement} */ ($(id)).disabled = none;
    }
    $("play").querySelector("use")?.setAttribute("href", this.playing || tracking ? "#i-pause" : "#i-play");
    $("play").setAttribute("aria-label", this.playing || tracking ? "Pause" : "Play");
    /** @type {HTMLButtonElement} */ ($("export-start")).disabled = this.starting || (!!this.job?.running && !tracking);
    if (this.state) $("hint").textContent = this.hint(this.state);
  }

  buildFormats() {
    const formats = this.workspace?.formats ?? [];
    for (const group of new Set(formats.map((format) => format.group))) {
      const button = element("button", group);
      button.addEventListener("click", () => this.showFormats(group));
      $("groups").append(button);
    }
    for (const { name, group, title, about } of formats) {
      const label = document.createElement("label");
      label.dataset.group = group;
      label.append(Object.assign(document.createElement("input"), { type: "radio", name: "format", value: name }), element("b", title), element("small", about));
      label.addEventListener("change", () => this.showOptions());
      $("formats").append(label);
    }
    if (formats.length) this.showFormats(formats[0].group);
  }

  /** @param {string} group */
  showFormats(group) {
    for (const button of $("groups").children) button.setAttribute("aria-pressed", String(button.textContent === group));
    const labels = /** @type {HTMLElement[]} */ ([...$("formats").children]);
    for (const label of labels) label.hidden = label.dataset.group !== group;
    const radio = labels.find((label) => !label.hidden)?.querySelector("input");
    if (radio) radio.checked = true;
    this.showOptions();
  }

  /** The chosen format. */
  get format() {
    const chosen = /** @type {HTMLInputElement | null} */ (document.querySelector("[name=format]:checked"));
    return this.workspace?.formats.find(({ name }) => name === chosen?.value);
  }

  showOptions() {
    const offered = this.format?.options.filter((option) => option !== "fps" || !this.state?.fps) ?? [];
    for (const label of /** @type {HTMLElement[]} */ ([...$("options").children])) label.hidden = !offered.includes(label.dataset.option ?? "");
  }

  openExport() {
    if (!this.state) return;
    const { objects, num_frames: all } = this.state;
    $("only").replaceChildren(new Option("all together", ""), ...objects.map(({ id, name }) => new Option(`${name} alone`, String(id))));
    $("untracked").textContent = objects.map((object) => this.lack(object, all)).filter(Boolean).join("\n");
    this.showOptions();
    dialog("export-dialog").showModal();
    /** @type {HTMLElement | null} */ (document.querySelector("[name=format]:checked"))?.focus();
  }

  /** In how many frames an export will lack an object; empty if in none. @param {StudioObject} object @param {number} all */
  lack({ id, name }, all) {
    const { untracked, before } = this.coverage(id), count = untracked + before;
    const early = before ? `, ${before < count ? `${before} of them` : "all"} before its first mark` : "";
    return count ? `${name} is neither tracked nor marked in ${count} of ${frames(all)}${early}: it will be missing there.` : "";
  }

  async export() {
    /** @type {Record<string, unknown>} */
    const options = {};
    for (const field of /** @type {NodeListOf<HTMLInputElement>} */ ($("options").querySelectorAll("label:not([hidden]) > *"))) {
      if (!field.reportValidity()) return;
      options[field.name || field.id] = field.type === "checkbox" ? field.checked : field.type === "color" ? field.value : Number(field.value);
    }
    const { api } = this;
    if (this.tracking) this.complain("Tracking was stopped for the export. Press T to continue it.", true);
    $("export-result").textContent = "Starting …";
    this.starting = true;
    this.renderBusy();
    await this.queue;
    try { await api?.post("/export", { format: this.format?.name, options }); } catch (error) { $("export-result").textContent = ""; this.complain(error); }
    this.starting = false;
    this.renderBusy();
  }

  /** The address of an export as a zip. @param {string} name */
  zip(name) { return `${this.api?.base}/zip/${encodeURIComponent(name)}`; }

  /** @param {State} state */
  renderExports({ exports }) {
    $("earlier").hidden = !exports.length;
    $("earlier-exports").replaceChildren(...exports.map((name) => download(this.zip(name), `${name}.zip`)));
  }

  /** @param {Job} job */
  renderExport(job) {
    const bar = /** @type {HTMLProgressElement} */ ($("export-progress")), result = $("export-result");
    bar.hidden = $("export-stop").hidden = !job.running;
    if (job.total) bar.value = (job.done ?? 0) / job.total;
    if (job.running) result.textContent = `frame ${job.frame ?? 0}`;
    else if (job.stopped) result.textContent = "Stopped; nothing was saved.";
    else if (job.folder) {
      const { written = 0, bytes = 0, folder, files = [], warnings = [] } = job, base = `${this.api?.base}`;
      const links = files.map((file) => download(`${base}/exports/${file.split("/").map(encodeURIComponent).join("/")}`, file.split("/").at(-1) ?? file));
      if (written > 1) links.unshift(download(this.zip(job.export ?? ""), `Download all ${written} files as a zip`));
      const said = warnings.map((text) => element("span", text, "warned"));
      result.replaceChildren(element("span", `${written} ${written === 1 ? "file" : "files"}, ${size(bytes)}, in `), element("code", folder), ...links, ...said);
    } else if (job.error) result.textContent = job.error;
  }

  /** @param {string} [path] */
  async browse(path) {
    const projects = $("projects"), entries = $("entries");
    const openBy = async (/** @type {() => string | Promise<string>} */ choose) => {
      dialog("open-dialog").close();
      this.note("Opening …", "busy");
      try { await this.open(choose()); } catch (error) { this.complain(error); if (this.state) this.settle(); else this.note(""); }
    };
    this.workspace = await (await ask("/api/workspace")).json();
    projects.replaceChildren(...(this.workspace?.projects ?? []).map((name) => fileRow("film", name, () => openBy(() => name))));
    if (!projects.childElementCount) projects.append(element("p", "None yet.", "quiet"));
    /** @type {Browse} */
    let found = await (await ask(`/api/browse?path=${encodeURIComponent(path ?? "")}`)).json();
    if (path === undefined && found.entries.length === 1) found = await (await ask(`/api/browse?path=${encodeURIComponent(found.entries[0].path)}`)).json();
    $("folder").textContent = found.path || "Videos";
    const open = (/** @type {string} */ at) => openBy(async () => (await (await ask("/api/projects", { method: "POST", body: JSON.stringify({ path: at }) })).json()).name);
    const look = (/** @type {string} */ at) => this.browse(at).catch((error) => this.complain(error));
    const rows = found.entries.map((entry) => fileRow(entry.folder ? "folder" : "film", entry.name, () => entry.folder ? look(entry.path) : open(entry.path)));
    if (found.parent !== null) rows.unshift(fileRow("back", "Up", () => look(/** @type {string} */ (found.parent))));
    if (found.images) rows.push(fileRow("film", `The ${found.images} images in this folder, as a video`, () => open(found.path)));
    entries.replaceChildren(...rows);
    if (!found.entries.length && !found.images) entries.append(element("p", "No videos here.", "quiet"));
    $("toast").hidden = true;
    if (!dialog("open-dialog").open) dialog("open-dialog").showModal();
    entries.querySelector("button")?.focus();
  }
}

// ---- small parts --------------------------------------------------------------------------------------------------

/** @param {string} id @returns {HTMLDialogElement} */
const dialog = (id) => $(id);

/** @param {string} tag @param {string} text @param {string} [kind] */
function element(tag, text, kind = "") { return Object.assign(document.createElement(tag), { textContent: text, className: kind }); }

/** @param {string} name */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** @param {string} name @param {string} label @param {() => void} work */
function iconButton(name, label, work) {
  const button = document.createElement("button");
  button.className = "icon";
  button.setAttribute("aria-label", label);
  button.title = label;
  button.append(icon(name));
  button.addEventListener("click", work);
  return button;
}

/** @param {string} address @param {string} text */
function download(address, text) { return Object.assign(element("a", text), { href: address, download: "" }); }

/** @param {number} bytes */
function size(bytes) {
  const power = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes)) / 10)), value = bytes / 2 ** (10 * power);
  return `${value < 10 && power ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB"][power]}`;
}

/** @param {string} name @param {string} text @param {() => void} work */
function fileRow(name, text, work) {
  const row = document.createElement("li"), button = document.createElement("button");
  button.append(icon(name), element("span", text));
  button.addEventListener("click", work);
  row.append(button);
  return row;
}

/** @param {string} type @param {string} value @param {string} label @param {(value: string) => void} work */
function input(type, value, label, work) {
  const field = Object.assign(document.createElement("input"), { type, value, maxLength: 80 });
  field.setAttribute("aria-label", label);
  field.addEventListener("change", () => work(field.value.trim()));
  field.addEventListener("focus", () => { value = field.value; });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") field.value = value;
    if (event.key === "Enter" || event.key === "Escape") field.blur();
    event.stopPropagation();
  });
  return field;
}

/** @param {number} count */
function frames(count) { return `${count} ${count === 1 ? "frame" : "frames"}`; }

/** @param {number} seconds */
function time(seconds) {
  const whole = Math.floor(seconds), pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const minutes = `${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${minutes}` : minutes;
}

/** @param {Job} job */
function progress({ fps, last = 0, frame, passing }) {
  if (passing != null) return `on the way there: frame ${passing}`;
  return fps ? `${fps.toFixed(1)} frames/s · ${time(Math.abs(last - (frame ?? 0)) / fps)} left` : "starting …";
}

/** @param {Action} action */
function named({ do: kind, frame, first, last }) {
  const frames = frame !== undefined ? ` in frame ${frame}` : first === undefined ? "" : first === last ? ` of frame ${first}` : ` of frames ${first} to ${last}`;
  const names = /** @type {Record<string, string>} */ ({
    set_key: "mark", clear_key: "clearing of a mark", accept: "acceptance", unaccept: "end of acceptance", add_object: "new object", update_object: "change of an object",
    remove_object: "deletion of an object",
  });
  return `${names[kind] ?? kind}${frames}`;
}

// ---- wires --------------------------------------------------------------------------------------------------------

const studio = new Studio();

/** @param {string} name */
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try { localStorage.setItem("theme", name); } catch { /* private mode */ }
  studio.time.draw();
}

const commands = /** @type {Record<string, () => unknown>} */ ({
  open: () => studio.browse().catch((error) => studio.complain(error)),
  undo: () => studio.turn("undo"), redo: () => studio.turn("redo"),
  theme: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  help: () => dialog("help-dialog").showModal(),
  export: () => studio.openExport(), "export-start": () => studio.export(), "export-stop": () => studio.stop(),
  "welcome-open": () => commands.open(),
  plus: () => studio.setMinus(false), minus: () => studio.setMinus(true), sign: () => studio.setMinus(!studio.minus),
  aim: () => $("view").focus(), number: () => $("goto").focus(),
  "zoom-in": () => studio.view.zoom(1.3), "zoom-out": () => studio.view.zoom(1 / 1.3), "zoom-fit": () => studio.view.fit(),
  add: () => studio.newObject(), accept: () => studio.accept(), "accept-to": () => studio.acceptTo(),
  clear: () => studio.clear(), absent: () => studio.absent(),
  memory: () => studio.sheet(`Memory before frame ${studio.frame}`), why: () => studio.setWhy(!studio.why),
  "prev-key": () => studio.jumpKey(-1), "next-key": () => studio.jumpKey(1), prev: () => studio.seek(studio.from - 1), next: () => studio.seek(studio.from + 1),
  "prev-10": () => studio.seek(studio.from - 10), "next-10": () => studio.seek(studio.from + 10),
  first: () => studio.seek(0), last: () => studio.seek(Infinity), play: () => studio.play(),
  "next-doubt": () => studio.jumpDoubt(1), "prev-doubt": () => studio.jumpDoubt(-1),
  track: () => studio.track("forward"), "track-back": () => studio.track("backward"), "track-both": () => studio.track("both"), "track-here": () => studio.trackHere(),
  stop: () => studio.stop(),
  "close-polygon": () => { if (studio.view.polygon.length) studio.view.closePolygon(); },
  escape: () => {
    $("toast").hidden = true;
    studio.setWhy(false);
    studio.view.cancel();
    if (studio.tracking || (studio.drawing && !studio.job?.running)) studio.stop(); // no key stops an export
    if (studio.drawing) studio.leaveSheet();
  },
  hide: () => { if (studio.selected) studio.toggle(studio.selected); },
  masks: () => { studio.view.showMasks = !studio.view.showMasks; studio.view.draw(); },
  smaller: () => studio.setBrush(studio.view.brush - 3), larger: () => studio.setBrush(studio.view.brush + 3),
  ...Object.fromEntries(["click", "box", "brush", "eraser", "polygon", "pan"].map((tool) => [`tool-${tool}`, () => studio.setTool(/** @type {Tool} */ (tool))])),
});

for (const id of Object.keys(commands)) document.getElementById(id)?.addEventListener("click", () => commands[id]());
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => studio.setTool(/** @type {Tool} */ (/** @type {HTMLElement} */ (button).dataset.tool)));
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog")?.close());
for (const each of document.querySelectorAll("dialog")) each.addEventListener("close", () => { if (each.contains($("toast"))) document.body.append($("toast")); });
$("size").addEventListener("pointerup", () => $("size").blur()); // without the focus, the arrow keys change the frame again
$("size").addEventListener("input", () => studio.setBrush(Number(/** @type {HTMLInputElement} */ ($("size")).value)));
$("keys").replaceChildren(...KEYS.map(([keys, , about]) => {
  const row = document.createElement("div"), names = document.createElement("span");
  names.append(...keys.split(" ").map(keyName).filter(Boolean).map((name) => element("kbd", name)));
  row.append(element("span", about), names);
  return row;
}));

/** @type {[string, string, (value: string) => unknown][]} */
const settings = [
  ["policy", "policy", String], ["budget", "frames", Number], ["short-side", "size", Number], ["every", "write_every", (value) => value ? Number(value) : null],
];
for (const [id, name, read] of settings) {
  const field = /** @type {HTMLInputElement} */ ($(id));
  let pointed = false; // whether the list was opened with the mouse
  field.addEventListener("pointerdown", () => { pointed = field.matches("select"); });
  field.addEventListener("change", () => {
    if (studio.api && field.reportValidity()) studio.act({ do: "settings", [name]: read(field.value) });
    if (pointed) field.blur(); // without the focus, the arrow keys change the frame again
  });
  field.addEventListener("keydown", (event) => {
    pointed = false;
    if (event.key === "Enter" && field.matches("input")) field.blur();
  });
}

studio.view.addEventListener("click", (event) => studio.click(/** @type {CustomEvent} */ (event).detail));
const goto = /** @type {HTMLInputElement} */ ($("goto"));
goto.addEventListener("focus", () => goto.select());
goto.addEventListener("change", () => { if (goto.value) studio.seek(Math.round(Number(goto.value))); else goto.value = String(studio.frame); });
goto.addEventListener("keydown", (event) => {
  if (event.key === "Escape") goto.value = String(studio.frame);
  if (event.key === "Enter" || event.key === "Escape") goto.blur();
});
studio.view.addEventListener("zoomed", () => { if (studio.height > studio.shownHeight) studio.refresh(); });
studio.view.addEventListener("aim", () => studio.render());
studio.view.addEventListener("box", (event) => studio.box(/** @type {CustomEvent} */ (event).detail.box));
studio.view.addEventListener("early", () => studio.complain("There is no picture to draw on yet.", true));
studio.view.addEventListener("begin", () => studio.stay());
studio.view.addEventListener("rest", () => {
  if (!studio.held) return;
  studio.held = false;
  studio.refresh();
});
studio.view.addEventListener("painted", (event) => studio.painted(/** @type {CustomEvent} */ (event).detail));
studio.view.addEventListener("begin-paint", (event) => {
  if (!studio.selected) {
    event.preventDefault();
    const { api } = studio;
    studio.ensureObject().then((object) => {
      if (!object || api !== studio.api || object !== studio.selected) return; // refused, or another video or object was chosen
      if (studio.view.tool === "polygon") studio.view.closePolygon(); else studio.complain("A new object was created; paint it now.", true);
    });
  }
  else if (!studio.workable()) event.preventDefault();
});
studio.time.addEventListener("seek", (event) => studio.seek(/** @type {CustomEvent} */ (event).detail));
studio.time.addEventListener("select", (event) => studio.select(/** @type {CustomEvent} */ (event).detail));

addEventListener("beforeunload", (event) => { if (studio.busy || studio.unanswered.size) event.preventDefault(); });

const STEPS = /** @type {Record<string, string>} */ ({ ArrowUp: "next", ArrowDown: "prev", PageUp: "next-10", PageDown: "prev-10" });
$("timeline").addEventListener("keydown", (event) => {
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  commands[STEPS[event.key]]();
});

const byKey = new Map(KEYS.filter(([, command]) => command).flatMap(([keys, command]) => keys.split(" ").map((key) => [key, command])));
addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const left = target.closest("dialog:not([open])"); // a field of a dialog has the focus for a moment after that was closed
  if (document.querySelector("dialog[open]") || (!left && target.matches("input:not([type=range]), select, textarea"))) return;
  if ((event.key === " " || event.key === "Enter") && target.matches("button, summary")) return;
  if (/^(Arrow|Page|Home|End)/.test(event.key) && target.matches("input")) return; // used by the slider
  if (event.altKey && !"[]".includes(event.key)) return; // for the browser; some keyboards have brackets there
  const control = event.metaKey || (event.ctrlKey && !event.altKey);
  const letter = /^[a-z]$/i.test(event.key), shift = event.shiftKey && (letter || event.key.length > 1);
  const key = event.key === " " ? "space" : letter ? event.key.toLowerCase() : event.key;
  if (!control && /^[1-9]$/.test(key)) { const object = studio.state?.objects[Number(key) - 1]; if (object) studio.select(object.id); return; }
  const name = `${control ? "ctrl+" : ""}${shift ? "shift+" : ""}${key}`;
  const command = byKey.get(name) ?? byKey.get(name.toLowerCase());
  if (!command) return;
  event.preventDefault();
  commands[command]();
});

try { setTheme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark")); } catch { setTheme("dark"); }
studio.setTool("click");
studio.start().catch((error) => { studio.complain(error); studio.note(""); });
