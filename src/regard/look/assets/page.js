// State lives in one object; every change goes through set(), which draws and writes the hash
// (#encoder/layer/head/word, counted from 1), so that a view can be linked to.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { view: 0, layer: 0, head: 0, held: null, over: null };
const ids = [...data.views.map((view) => view.id), ...(data.positions.length ? ["positions"] : [])];
const titles = [...data.views.map((view) => view.title), "Positions"];
let drawnView = -1;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const view = () => data.views[state.view];
const head = () => view().layers[state.layer].heads[state.head];
const weight = (one, i, j) => Math.max(0, one.weights[i][j]) / data.scale;
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
const signed = (value) => (value <= -0.0005 ? "−" : "+") + fixed(Math.abs(value), 3);
const percent = (value) => Math.round(100 * value) + " %";
const called = (l, h) => `Layer ${l + 1}` + (data.rollout ? "" : `, head ${h + 1}`);
const name = (word) => (word.trim() === "" ? "␣" : word);

// ---- colors
let ramp = [], hiddenColor = [0, 0, 0];
function parse(color) {
  const hex = color.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const stops = [0, 1, 2, 3, 4].map((n) => parse(style.getPropertyValue("--ramp" + n)));
  hiddenColor = parse(style.getPropertyValue("--hidden"));
  ramp = Array.from({ length: 256 }, (_, n) => {
    const at = (n / 255) * 4, low = Math.min(3, Math.floor(at));
    return stops[low].map((c, k) => Math.round(c + (stops[low + 1][k] - c) * (at - low)));
  });
}
// Small weights matter: the ramp follows w^0.6, as the legend shows.
const shade = (w) => ramp[Math.round(255 * Math.pow(clamp(w, 0, 1), 0.6))];
function paint(canvas, rows, columns, colorAt) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) image.data.set([...colorAt(i, j), 255], 4 * (i * columns + j));
  context.putImageData(image, 0, 0);
}
function paintHead(canvas, one) {
  const color = (i, j) => (one.weights[i][j] < 0 ? hiddenColor : shade(weight(one, i, j)));
  paint(canvas, one.weights.length, one.weights[0].length, color);
}

// ---- state and hash
function set(change) {
  Object.assign(state, change);
  if (state.view < data.views.length) {
    state.layer = clamp(state.layer, 0, view().layers.length - 1);
    state.head = clamp(state.head, 0, view().layers[state.layer].heads.length - 1);
    if (state.held !== null && state.held.at >= words(state.held.side).length) state.held = null;
  }
  draw();
  const word = state.held && state.held.side === "queries" ? "/" + (state.held.at + 1) : "";
  const place = state.view < data.views.length ? `/${state.layer + 1}/${state.head + 1}${word}` : "";
  try { history.replaceState(null, "", "#" + ids[state.view] + place); } catch { /* in a frame */ }
}
function fromHash() {
  const [id, layer, number, word] = decodeURIComponent(location.hash.slice(1)).split("/");
  const found = ids.indexOf(id), index = (text) => Math.max(1, parseInt(text, 10) || 1) - 1;
  if (found < 0) return {};
  const held = word ? { side: "queries", at: index(word) } : null;
  return { view: found, layer: index(layer), head: index(number), held };
}
const words = (side) => (side === "queries" ? view().queries : view().keys);
const active = () => state.over || state.held;

// ---- header, tabs
function drawHeader() {
  $("text").textContent = data.text || "How the model tells positions apart";
  $("target").textContent = "→ " + data.target;
  $("target").hidden = !data.target;
  const facts = [];
  if (data.target) facts.push(data.own ? "the model's own answer" : "the target that was given, not the model's answer");
  if (data.loss !== null)
    facts.push(`loss ${fixed(data.loss, 3)} nats a token, perplexity ${fixed(Math.exp(data.loss), 2)}`);
  $("facts").textContent = facts.join(" · ");
  $("version").textContent = data.version;
  if (data.rollout) {
    $("what").textContent = "attention rollout: how much of each input has come up to each layer";
    $("overview-title").textContent = "All layers";
    $("matrix-title").textContent = "The whole layer";
    $("head").parentElement.hidden = true;
  }
  if (!data.views.length) $("what").textContent = "";
  document.querySelector("footer").hidden = !data.views.length;
  if (worths.length)
    $("worth").textContent = "Importance: how much the loss, in nats a token, rises when the head alone is switched off.";
  ids.forEach((id, index) => $("tabs").append(element("button", {
    role: "tab", type: "button", id: "tab-" + id, "aria-controls": "panel",
    onclick: () => set({ view: index, held: null, over: null }),
  }, titles[id === "positions" ? titles.length - 1 : index])));
  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); set({ view: (state.view + step + ids.length) % ids.length, held: null, over: null }); $("tabs").children[state.view].focus(); }
  });
}

// ---- overview
const worths = data.views.flatMap((one, v) => one.layers.flatMap((layer, l) => layer.heads.flatMap(
  (found, h) => (found.importance === null ? [] : [{ v, l, h, worth: found.importance }]))));
worths.sort((a, b) => b.worth - a.worth);
const most = Math.max(1e-9, ...worths.map((one) => Math.abs(one.worth)));
function meter(kind, share) {
  const bar = element("i");
  bar.style.width = 100 * clamp(share, 0, 1) + "%";
  return element("span", { class: "meter " + kind, "aria-hidden": "true" }, bar);
}
function drawGrid() {
  const heads = Math.max(...view().layers.map((layer) => layer.heads.length)), grid = $("grid");
  grid.replaceChildren(element("span"));
  grid.style.gridTemplateColumns = `1.2em repeat(${heads}, minmax(0, 1fr))`;
  grid.className = heads > 8 ? "dense" : "";
  $("panel").style.setProperty("--side", 150 + 16 * heads + "px");
  for (let h = 0; h < heads; h++) grid.append(element("span", { class: "number", "aria-hidden": "true" }, String(h + 1)));
  view().layers.forEach((layer, l) => {
    grid.append(element("span", { class: "number", "aria-hidden": "true", style: "grid-column:1" }, String(l + 1)));
    layer.heads.forEach((one, h) => {
      const canvas = element("canvas"), label = [called(l, h), `entropy ${fixed(one.entropy, 2)} nats`];
      if (one.importance !== null) label.push(`importance ${signed(one.importance)}`);
      if (data.picture) paintPicture(canvas, heatOf(one, null), 96);
      else paintHead(canvas, one);
      const cell = element("button", {
        class: "cell", type: "button", role: "radio", "aria-label": label.join(", "), title: label.join("\n"),
        onclick: () => set({ layer: l, head: h }),
      }, canvas, meter("", one.relative ?? 0));
      if (one.importance !== null) cell.append(meter(one.importance < 0 ? "worth less" : "worth", Math.abs(one.importance) / most));
      grid.append(cell);
    });
  });
  $("axes").textContent = data.rollout ? "From the lowest layer to the highest." : "Rows are layers, columns are heads.";
  $("key").replaceChildren(meter("", 0.6), " entropy, of the most it could be");
  if (worths.length) $("key").append(element("br"), meter("worth", 0.6), " rise of the loss without the head");
}
function drawRanking() {
  const list = element("ol");
  for (const one of worths.slice(0, 5)) {
    const found = data.views[one.v];
    const focus = describe(found.layers[one.l].heads[one.h].focus);
    list.append(element("li", {}, element("a", {
      href: `#${found.id}/${one.l + 1}/${one.h + 1}`,
      onclick: (event) => { event.preventDefault(); set({ view: one.v, layer: one.l, head: one.h, held: null, over: null }); },
    }, element("span", {}, `${found.title}, layer ${one.l + 1}, head ${one.h + 1}${focus ? ": " + focus : ""}`), element("b", {}, signed(one.worth)))));
  }
  $("ranking").append(list);
}
const THING = data.picture ? "token" : "word";
const PLACES = Object.fromEntries([["previous", `the ${THING} before`], ["same", `the same ${THING}`], ["next", `the ${THING} after`], ["first", `the first ${THING}`], ["last", `the last ${THING}`]]);
const describe = ([place, share]) => (share >= 0.5 ? PLACES[place] : "");

// ---- one head
function fact(title, value, note) {
  return element("div", {}, element("dt", {}, title), element("dd", {}, value, element("small", {}, note)));
}
function drawHead() {
  const one = head();
  $("head-title").textContent = called(state.layer, state.head);
  const fill = (select, count, at) => {
    if (select.length !== count)
      select.replaceChildren(...Array.from({ length: count }, (_, n) => element("option", { value: n }, String(n + 1))));
    select.value = String(at);
  };
  fill($("layer"), view().layers.length, state.layer);
  fill($("head"), view().layers[state.layer].heads.length, state.head);
  const stats = [fact("Entropy", fixed(one.entropy, 2) + " nats", one.relative === null ? "no choice" : percent(one.relative) + " of the most it could be")];
  if (one.importance !== null) {
    const rank = worths.findIndex((w) => w.v === state.view && w.l === state.layer && w.h === state.head) + 1;
    const without = fixed(data.loss + one.importance, 3);
    stats.push(fact("Importance", signed(one.importance) + " nats", `loss ${fixed(data.loss, 3)} → ${without} without it; number ${rank} of ${worths.length}`));
  }
  const [place, share] = one.focus;
  if (share >= 0.3) stats.push(fact("Looks most at", PLACES[place], `which gets ${percent(share)} of its attention`));
  $("stats").replaceChildren(...stats);
  drawLines();
  drawMatrix();
}
function fillColumn(side) {
  const column = $(side), held = (at) => state.held && state.held.side === side && state.held.at === at;
  column.replaceChildren(...words(side).map((word, at) => element("button", {
    class: "word", type: "button", tabindex: at === 0 ? 0 : -1, title: word, dir: "auto",
    onmouseenter: () => set({ over: { side, at } }), onmouseleave: () => set({ over: null }),
    onfocus: (event) => { if (event.target.matches(":focus-visible")) set({ over: { side, at } }); rove(column, at); },
    onblur: () => set({ over: null }),
    onclick: () => set({ held: held(at) ? null : { side, at }, over: null }),
  }, element("span", {}, name(word)), element("small", { "aria-hidden": "true" }))));
}
function rove(column, at) {
  [...column.children].forEach((child, n) => child.setAttribute("tabindex", n === at ? 0 : -1));
}
function onColumnKey(event) {
  const column = event.currentTarget, at = [...column.children].indexOf(document.activeElement);
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: column.children.length - 1 }[event.key];
  if (to !== undefined) { event.preventDefault(); column.children[clamp(to, 0, column.children.length - 1)].focus(); }
  const other = { ArrowLeft: "queries", ArrowRight: "keys" }[event.key];
  if (other) { event.preventDefault(); $(other).children[Math.min(at, $(other).children.length - 1)].focus(); }
}
const ROW = 30;
function drawLines() {
  if (data.picture) { drawPicture(); drawReadout(); return; }
  const one = head(), now = active(), rows = words("queries").length, columns = words("keys").length;
  const svg = $("lines"), height = ROW * Math.max(rows, columns), paths = [];
  svg.setAttribute("viewBox", `0 0 100 ${height}`);
  svg.style.height = height + "px";
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
    const w = weight(one, i, j), on = now && (now.side === "queries" ? now.at === i : now.at === j);
    if (w < (on ? 0.005 : 0.03) || (now && !on)) continue;
    const y = ROW * (i + 0.5), z = ROW * (j + 0.5), line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", `M0,${y}C45,${y} 55,${z} 100,${z}`);
    line.style.stroke = `rgb(${shade(0.12 + 0.88 * w).join(" ")})`;
    line.style.strokeWidth = 0.75 + 5 * w;
    line.style.opacity = on ? 1 : 0.25 + 0.75 * w;
    paths.push([w, line]);
  }
  svg.replaceChildren(...paths.sort((a, b) => a[0] - b[0]).map((pair) => pair[1]));
  for (const side of ["queries", "keys"]) [...$(side).children].forEach((button, at) => {
    const mine = now && now.side === side, small = button.lastChild;
    button.className = "word";
    button.setAttribute("aria-pressed", Boolean(state.held && state.held.side === side && state.held.at === at));
    button.style.background = "";
    small.textContent = "";
    if (!now) return;
    if (mine) button.classList.add(now.at === at ? "on" : "faint");
    else {
      const [i, j] = side === "keys" ? [now.at, at] : [at, now.at], w = weight(one, i, j);
      small.textContent = one.weights[i][j] < 0 ? "" : fixed(w, w < 0.0995 ? 3 : 2);
      button.classList.add(w >= 0.05 ? "lit" : "away");
      const to = side === "keys" ? "right" : "left", full = 100 * w;
      if (w >= 0.05) button.style.background = `linear-gradient(to ${to}, var(--mark) ${full}%, transparent ${full}%)`;
    }
  });
  drawReadout();
}
function drawReadout() {
  const now = active(), one = head(), out = $("readout");
  if (!now) {
    const how = data.picture ? "Point at a patch of the picture, or choose what looks, to see where." : "Point at a word, or tab to one, to see where it looks.";
    out.replaceChildren(element("span", { class: "hint" }, how));
    return;
  }
  const asks = now.side === "queries", others = words(asks ? "keys" : "queries");
  const pairs = others.map((word, at) => [asks ? weight(one, now.at, at) : weight(one, at, now.at), word]);
  pairs.sort((a, b) => b[0] - a[0]);
  const said = asks && view().predicts[now.at] ? ` (to say “${name(view().predicts[now.at])}”)` : "";
  const start = element("span", {}, element("b", {}, name(words(now.side)[now.at])), asks ? said + " looks at" : " is looked at by");
  const top = pairs.slice(0, 5).filter((pair) => pair[0] >= 0.0005);
  out.replaceChildren(start, ...top.map(([w, word]) => element("span", {}, element("b", {}, name(word)), " " + fixed(w, 3))));
}
let cell = 20;
function drawMatrix() {
  const one = head(), rows = words("queries").length, columns = words("keys").length;
  const room = $("scroll").clientWidth - 8, pen = document.createElement("canvas").getContext("2d");
  pen.font = "13px " + getComputedStyle(document.body).fontFamily;
  const widest = Math.max(...words("queries").map((word) => pen.measureText(name(word)).width));
  const side = Math.min(widest + 8, 112, 0.3 * room);
  cell = clamp(Math.floor((room - side) / columns), 9, 34);
  const names = (list, kind, size) => element("div", { class: "names " + kind, "aria-hidden": "true" }, ...list.map((word) => {
    const label = element("span", { title: word }, name(word));
    label.style[kind === "rows" ? "height" : "width"] = cell + "px";
    label.style.lineHeight = cell + "px";
    label.style.fontSize = Math.min(13, cell * 0.9) + "px";
    if (kind === "rows") label.style.maxWidth = size + "px";
    return label;
  }));
  const canvas = element("canvas", { role: "img", "aria-label": `Attention of ${rows} ${THING}s over ${columns}; what stands beside it gives the numbers.` });
  paintHead(canvas, one);
  canvas.style.width = cell * columns + "px";
  canvas.style.height = cell * rows + "px";
  canvas.addEventListener("mousemove", (event) => {
    const at = clamp(Math.floor(event.offsetY / cell), 0, rows - 1);
    if (!state.over || state.over.at !== at || state.over.side !== "queries") set({ over: { side: "queries", at } });
    bands(at, clamp(Math.floor(event.offsetX / cell), 0, columns - 1));
  });
  canvas.addEventListener("mouseleave", () => set({ over: null }));
  const matrix = $("matrix");
  matrix.style.gridTemplateColumns = "auto auto";
  matrix.replaceChildren(element("span"), names(words("keys"), "columns"), names(words("queries"), "rows", side), canvas);
  markMatrix();
}
function markMatrix() {
  const now = active();
  if (now) bands(now.side === "queries" ? now.at : null, now.side === "keys" ? now.at : null);
  else bands(null, null);
}
function bands(i, j) {
  const matrix = $("matrix"), canvas = matrix.querySelector("canvas");
  if (!canvas) return;
  matrix.querySelectorAll(".band").forEach((band) => band.remove());
  const [, columns, rows] = matrix.children;
  [...rows.children].forEach((label, at) => label.classList.toggle("on", at === i));
  [...columns.children].forEach((label, at) => label.classList.toggle("on", at === j));
  if (i === null && j === null) return;
  const band = element("span", { class: "band" }), width = canvas.offsetWidth, height = canvas.offsetHeight;
  Object.assign(band.style, {
    left: canvas.offsetLeft + (j === null ? 0 : j * cell) - 2 + "px", top: canvas.offsetTop + (i === null ? 0 : i * cell) - 2 + "px",
    width: (j === null ? width : cell) + 4 + "px", height: (i === null ? height : cell) + 4 + "px",
  });
  matrix.append(band);
}

// ---- drawing
let drawnHead = "";
function draw() {
  const places = state.view >= data.views.length;
  [...$("tabs").children].forEach((tab, at) => {
    tab.setAttribute("aria-selected", at === state.view);
    tab.setAttribute("tabindex", at === state.view ? 0 : -1);
  });
  $("panel").setAttribute("aria-labelledby", "tab-" + ids[state.view]);
  document.querySelectorAll(".overview, .detail").forEach((part) => { part.hidden = places; });
  $("ranking").hidden = places || !worths.length;
  $("positions").hidden = !places;
  if (places) { if (drawnView !== state.view) drawPositions(); drawnView = state.view; return; }
  if (drawnView !== state.view) {
    drawnView = state.view;
    drawnHead = "";
    drawGrid();
    if (!data.picture) { fillColumn("queries"); fillColumn("keys"); }
    $("sides").textContent = view().kind === "cross"
      ? "The target's words, on the left, look at the source's." : "The words on the left look at those on the right.";
  }
  const key = [state.view, state.layer, state.head].join("/");
  if (drawnHead !== key) {
    drawnHead = key;
    let at = 0;
    view().layers.forEach((layer, l) => layer.heads.forEach((_, h) => {
      const on = l === state.layer && h === state.head, button = $("grid").querySelectorAll(".cell")[at++];
      button.setAttribute("aria-checked", on);
      button.setAttribute("tabindex", on ? 0 : -1);
    }));
    drawHead();
  } else { drawLines(); markMatrix(); }
}
function redraw() {
  readColors();
  paint($("legend"), 1, 128, (_, j) => shade(j / 127));
  drawnView = -1;
  draw();
}
const GRID_KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
$("grid").addEventListener("keydown", (event) => {
  const step = GRID_KEYS[event.key];
  if (!step) return;
  event.preventDefault();
  set({ layer: state.layer + step[0], head: state.head + step[1] });
  $("grid").querySelector("[aria-checked=true]").focus();
});
for (const side of ["queries", "keys"]) $(side).addEventListener("keydown", onColumnKey);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") set({ held: null, over: null });
  const step = GRID_KEYS[event.key];
  if (step && step[1] && document.activeElement === document.body && state.view < data.views.length) set({ head: state.head + step[1] });
});
for (const part of ["layer", "head"]) $(part).addEventListener("change", (event) => set({ [part]: Number(event.target.value) }));
addEventListener("hashchange", () => set(fromHash()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width && state.view < data.views.length) { width = innerWidth; drawMatrix(); } });
drawHeader();
if (data.picture) setUpPicture();
drawRanking();
Object.assign(state, fromHash());
readColors();
set({});
redraw();
