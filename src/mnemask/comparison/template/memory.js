
// Inside the memory.
const { x: xs, y: ys } = data.edges;
const columns = xs.length - 1;
const looks = [...new Set(Object.values(data.looks).flat().map((look) => look.frame))].sort((a, b) => a - b);
let lookFrame = looks[looks.length - 1];
let chosen = null;

function cellBox(cell) {
  const column = cell % columns;
  const row = Math.floor(cell / columns);
  const [left, top] = [xs[column] * width, ys[row] * height];
  return [left, top, xs[column + 1] * width - left, ys[row + 1] * height - top];
}
function frameCell(pen, cell, color, thickness = 2) {
  pen.lineWidth = (thickness * width * (window.devicePixelRatio || 1)) / pen.canvas.width;
  pen.strokeStyle = color;
  pen.strokeRect(...cellBox(cell));
}
const lookOf = (policy) => data.looks[policy].find((look) => look.frame === lookFrame);
const clickOf = (look) => look && look.clicks.find((click) => click.cell === chosen);

function drawTile(pen, tile, voters) {
  [...tile.heat].forEach((mark, cell) => {
    const box = cellBox(cell);
    const pinned = mark >= "a";
    if (mark === ".") pen.fillStyle = "rgba(0,0,0,.62)";
    else { pen.fillStyle = data.heat[pinned ? mark.charCodeAt(0) - 97 : Number(mark)]; pen.globalAlpha = 0.58; }
    pen.fillRect(...box);
    pen.globalAlpha = 1;
    if (pinned) frameCell(pen, cell, "rgba(255,255,255,.7)", 1);
  });
  voters.forEach((cell) => frameCell(pen, cell, "#ff50a0", 3));
}

function addVotes(parent, look, click) {
  const votes = element("div", parent, { className: "votes" });
  const parts = look.objects.map((id, row) => [`object ${id}`, click.votes[row]]);
  parts.push(["no object", Math.max(0, 1 - click.votes.reduce((sum, vote) => sum + vote, 0))]);
  for (const [name, value] of parts) {
    element("span", votes, { textContent: name });
    element("meter", votes, { min: 0, max: 1, value }).setAttribute("aria-label", name);
    element("span", votes, { textContent: `${Math.round(100 * value)} %` });
  }
}

function addVoters(parent, click) {
  const voters = element("div", parent, { className: "voters" });
  for (const [frame, cell, weight] of click.from) {
    const figure = element("figure", voters);
    const canvas = newCanvas(figure, `token from frame ${frame}`);
    const caption = element("figcaption", figure);
    element("div", caption, { textContent: `frame ${frame}` });
    element("div", caption, { textContent: `${Math.round(100 * weight)} %` });
    picture(frame).then((image) => {
      const [left, top, wide, high] = cellBox(cell);
      const side = 5 * Math.max(wide, high);
      canvas.width = canvas.height = 148;
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#888";
      pen.fillRect(0, 0, 148, 148);
      pen.setTransform(148 / side, 0, 0, 148 / side, (-148 * (left + wide / 2 - side / 2)) / side, (-148 * (top + high / 2 - side / 2)) / side);
      if (image) pen.drawImage(image, 0, 0, width, height);
      pen.strokeStyle = "#ff50a0";
      pen.lineWidth = (4 * side) / 148;
      pen.strokeRect(left, top, wide, high);
    });
  }
}

function addMemory(policy) {
  const look = lookOf(policy);
  const panel = element("div", byId("memories"));
  element("h3", panel, { textContent: policy });
  if (!look) return element("p", panel, { textContent: "Nothing was read from memory here." });
  const click = clickOf(look);
  element("p", panel, { textContent: `${look.cells.toLocaleString("en")} tokens from ${look.sources.length} frames held after frame ${look.frame}` });
  const tiles = element("div", panel, { className: "tiles" });
  for (const tile of look.tiles) {
    const figure = element("figure", tiles);
    const kept = tile.heat.replaceAll(".", "").length;
    const voters = click ? click.from.filter(([frame]) => frame === tile.frame).map(([, cell]) => cell) : [];
    const canvas = newCanvas(figure, `tokens that ${policy} holds from frame ${tile.frame}`);
    element("figcaption", figure, { textContent: `frame ${tile.frame}: ${kept} tokens, top-k count ${tile.topk_count.toLocaleString("en")}${tile.pinned ? `, ${tile.pinned} pinned` : ""}` });
    paint(canvas, tile.frame, (pen) => drawTile(pen, tile, voters));
  }
  if (!click) return null;
  addVotes(panel, look, click);
  return addVoters(panel, click);
}

function showMemory() {
  byId("looks").querySelectorAll("button").forEach((button) => {
    button.setAttribute("aria-pressed", String(Number(button.dataset.frame) === lookFrame));
  });
  paint(byId("query"), lookFrame, (pen) => {
    drawTogether(pen, lookFrame);
    if (chosen !== null) frameCell(pen, chosen, "#ff50a0", 3);
  });
  byId("memories").replaceChildren();
  for (const { name } of data.policies) addMemory(name);
}

// Only a coarse grid of cells was explained; a click goes to the nearest of these.
const explained = [...new Set(Object.values(data.looks).flat().flatMap((look) => look.clicks.map((click) => click.cell)))];
function choose(x, y) {
  const distance = (cell) => {
    const [left, top, wide, high] = cellBox(cell);
    return (left + wide / 2 - x) ** 2 + (top + high / 2 - y) ** 2;
  };
  chosen = explained.reduce((best, cell) => (distance(cell) < distance(best) ? cell : best));
  showMemory();
}
function move(across, down) {
  const [left, top, wide, high] = cellBox(chosen ?? explained[Math.floor(explained.length / 2)]);
  const [x, y] = [left + wide / 2, top + high / 2];
  const beyond = explained.filter((cell) => {
    const box = cellBox(cell);
    const [dx, dy] = [box[0] + box[2] / 2 - x, box[1] + box[3] / 2 - y];
    return across ? dx * across > 1 && Math.abs(dy) < 1 : dy * down > 1 && Math.abs(dx) < 1;
  });
  if (beyond.length) {
    const first = (cell) => (across ? across * cellBox(cell)[0] : down * cellBox(cell)[1]);
    chosen = beyond.reduce((best, cell) => (first(cell) < first(best) ? cell : best));
  }
  showMemory();
}

if (looks.length) {
  for (const frame of looks) {
    const button = element("button", byId("looks"), { type: "button", textContent: `after frame ${frame}` });
    button.dataset.frame = frame;
    button.addEventListener("click", () => { lookFrame = frame; showMemory(); });
  }
  byId("query").addEventListener("click", (event) => {
    const box = event.target.getBoundingClientRect();
    choose(((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height);
  });
  byId("query").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) { move(...step); event.preventDefault(); }
  });
  showMemory();
} else byId("memory").hidden = true;

let resized = null;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => { show(position); if (looks.length) showMemory(); }, 150);
});
show(0);
