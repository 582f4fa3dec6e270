
// Side by side.
const panes = [];
function addPane(title, over) {
  const figure = element("figure", byId("panes"));
  const canvas = newCanvas(figure, title);
  element("figcaption", figure, { textContent: title });
  panes.push({ title, canvas, over });
}
if (data.policies.length > 1) addPane("all outlines", drawTogether);
if (data.truth) {
  addPane("true masks", (pen, frame) => drawMasks(pen, data.truth[frame]));
}
for (const { name } of data.policies) addPane(name, (pen, frame) => drawMasks(pen, data.outlines[name][frame]));
for (const { name, color } of data.policies) {
  const entry = element("span", byId("who"));
  element("i", entry, { className: "dot" }).style.background = color;
  entry.append(name);
}

let position = 0;
let drawn = Promise.resolve();
function show(next) {
  position = clamp(next, 0, data.shown.length - 1);
  const frame = data.shown[position];
  const seconds = data.seconds[position];
  byId("scrub").value = position;
  const text = `frame ${frame}` + (seconds === null ? "" : ` · ${seconds.toFixed(2)} s`);
  byId("where").textContent = text;
  byId("scrub").setAttribute("aria-valuetext", text);
  drawn = Promise.all(panes.map(({ title, canvas, over }) => {
    canvas.setAttribute("aria-label", `${title}, ${text}`);
    return paint(canvas, frame, (pen) => over(pen, frame));
  }));
  document.querySelectorAll("[data-chart]").forEach((chart) => markChart(chart, frame));
}

// The position, among the shown frames, of the one nearest to a frame of the video.
function nearest(frame) {
  let best = 0;
  data.shown.forEach((other, place) => {
    if (Math.abs(other - frame) < Math.abs(data.shown[best] - frame)) best = place;
  });
  return best;
}

let timer = null;
function stop() {
  clearTimeout(timer);
  timer = null;
  byId("play").textContent = "▶";
  byId("play").setAttribute("aria-label", "Play");
}
function tick() {
  if (position >= data.shown.length - 1) return stop();
  const gap = (data.shown[position + 1] - data.shown[position]) / data.rate;
  show(position + 1);
  timer = setTimeout(() => drawn.then(() => timer && tick()), clamp(gap * 1000, 30, 1000));
}
function playOrStop() {
  if (timer) return stop();
  if (position >= data.shown.length - 1) show(0);
  byId("play").textContent = "❚❚";
  byId("play").setAttribute("aria-label", "Stop");
  timer = setTimeout(tick, 0);
}
byId("play").addEventListener("click", playOrStop);
byId("scrub").max = data.shown.length - 1;
byId("scrub").addEventListener("input", (event) => { stop(); show(Number(event.target.value)); });
document.addEventListener("keydown", (event) => {
  if (event.target.closest("canvas, button, a, input[type=checkbox], .scroll") || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) { stop(); show(position + step * (event.shiftKey ? 10 : 1)); event.preventDefault(); }
  if (event.key === " ") { playOrStop(); event.preventDefault(); }
});

// Where they differ.
byId("part").hidden = !data.moments.length;
for (const { frame, agreement } of data.moments) {
  const button = element("button", element("figure", byId("strip")), { type: "button" });
  const canvas = newCanvas(button, `outlines of all policies, frame ${frame}`);
  element("span", button, { textContent: `frame ${frame} · agreement ${(100 * agreement).toFixed(1)}` });
  button.addEventListener("click", () => { stop(); show(nearest(frame)); byId("panes").scrollIntoView({ block: "center" }); });
  paint(canvas, frame, (pen) => drawTogether(pen, frame));
}

// Over time.
const write = (key, value) => (value === null ? "–" : key === "bytes" ? value.toFixed(1) : (100 * value).toFixed(1));
function markChart(chart, frame) {
  const key = chart.dataset.chart;
  chart.querySelector(".cursor").style.left = `${(100 * frame) / Math.max(data.frames - 1, 1)}%`;
  chart.querySelectorAll("output").forEach((output) => {
    output.textContent = write(key, data.charts[key][output.dataset.line][frame]);
  });
}
document.querySelectorAll("[data-chart]").forEach((chart) => {
  const plot = chart.querySelector(".plot");
  plot.addEventListener("click", (event) => {
    const box = plot.getBoundingClientRect();
    stop();
    show(nearest(((event.clientX - box.left) / box.width) * (data.frames - 1)));
  });
  chart.querySelectorAll("input").forEach((box) => box.addEventListener("change", () => {
    plot.querySelector(`path[data-line="${box.dataset.line}"]`).toggleAttribute("hidden", !box.checked);
  }));
});
byId("cost").hidden = !byId("cost").querySelector("svg");
