// A picture that was read, with attention laid over it as overlay.py does it; page.js calls these.
let pixels = null; // three bytes each, row by row
// How much each patch gets, the most is 1: from one token, else from what stands for the picture.
function heatOf(one, from) {
  const { grid: [rows, columns], before } = data.picture, count = rows * columns;
  const asked = from !== null ? [from] : before ? [0] : Array.from({ length: count }, (_, n) => n);
  const heat = Array.from({ length: count }, (_, n) => asked.reduce((sum, i) => sum + weight(one, i, before + n), 0));
  const most = heat.reduce((a, b) => Math.max(a, b), 1e-12);
  return heat.map((value) => value / most);
}
// Of each pixel of an axis, the patches that it lies between, and how far it is from the first.
function between(count, size, step) {
  return Array.from({ length: Math.ceil(size / step) }, (_, n) => {
    const place = clamp(((n * step + 0.5) * count) / size - 0.5, 0, count - 1), low = Math.floor(place);
    return [low, Math.min(low + 1, count - 1), place - low];
  });
}
function paintPicture(canvas, heat, widest) {
  const { height, width, dimmed, tint, warm } = data.pixels, [rows, columns] = data.picture.grid;
  const step = Math.ceil(Math.max(height, width) / widest);
  const ys = between(rows, height, step), xs = between(columns, width, step);
  paint(canvas, ys.length, xs.length, (i, j) => {
    const at = 3 * (i * step * width + j * step), found = [pixels[at], pixels[at + 1], pixels[at + 2]];
    if (heat === null) return found;
    const [top, bottom, down] = ys[i], [left, right, over] = xs[j];
    const row = (n) => (1 - over) * heat[n * columns + left] + over * heat[n * columns + right];
    const hot = (1 - down) * row(top) + down * row(bottom), light = dimmed + (1 - tint - dimmed) * hot;
    return found.map((value, c) => value * light + 255 * tint * hot * warm[c]);
  });
  canvas.style.aspectRatio = `${width} / ${height}`;
}
function pictureCanvas(label, heat, widest) {
  const canvas = element("canvas", { role: "img", "aria-label": label });
  paintPicture(canvas, heat, widest);
  return canvas;
}
const standsFor = () => (data.picture.before ? "[CLS], the class token" : "all patches, on average");
// What a page of a text says of words; and the parts that are a picture's alone.
function setUpPicture() {
  pixels = Uint8Array.from(atob(data.pixels.rgb), (one) => one.charCodeAt(0));
  const figure = (caption, canvas) => element("figure", {}, canvas, element("figcaption", {}, caption));
  $("seen").replaceChildren(
    figure("as the model sees it", pictureCanvas("The picture", null, 320)),
    figure("attention rollout", pictureCanvas("Attention rollout over the picture", data.picture.rollout.flat(), 320)),
  );
  for (const [id, hidden] of [["seen", false], ["laid", false], ["by-word", true]]) $(id).hidden = hidden;
  $("what").textContent = data.rollout ? $("what").textContent : "where the model looks in a picture";
  $("keyboard").textContent = "moves between the tabs, the grid and what looks; the arrow keys change tab, layer and head, or what looks; Esc goes back to " + standsFor() + ".";
  const { before, grid: [rows, columns] } = data.picture, count = rows * columns;
  const options = words("queries").map((word, at) => element("option", { value: at }, at < before || at >= before + count ? word : "patch " + word));
  $("from").replaceChildren(element("option", { value: "" }, standsFor()), ...options.slice(before));
  $("from").addEventListener("change", (event) => set({ held: event.target.value === "" ? null : { side: "queries", at: Number(event.target.value) }, over: null }));
  const canvas = element("canvas", { role: "img" }), under = (event) => {
    const [i, j] = [[event.offsetY, canvas.offsetHeight, rows], [event.offsetX, canvas.offsetWidth, columns]]
      .map(([at, size, patches]) => clamp(Math.floor((at / size) * patches), 0, patches - 1));
    return { side: "queries", at: before + i * columns + j };
  };
  canvas.addEventListener("mousemove", (event) => { const over = under(event); if (!state.over || state.over.at !== over.at) set({ over }); });
  canvas.addEventListener("mouseleave", () => set({ over: null }));
  canvas.addEventListener("click", (event) => { const held = under(event); set({ held: state.held && state.held.at === held.at ? null : held, over: null }); });
  $("over").replaceChildren(canvas);
}
function drawPicture() {
  const now = active(), from = now && now.side === "queries" ? now.at : null;
  const { before, grid: [rows, columns] } = data.picture, canvas = $("over").firstChild;
  paintPicture(canvas, heatOf(head(), from), 320);
  const token = from === null ? standsFor() : words("queries")[from];
  canvas.setAttribute("aria-label", `Where ${token} looks, over the picture`);
  $("from").value = state.held && state.held.at >= before ? String(state.held.at) : "";
  $("over").querySelectorAll(".band").forEach((band) => band.remove());
  const patch = from === null ? -1 : from - before;
  if (patch < 0 || patch >= rows * columns) return;
  const band = element("span", { class: "band" });
  Object.assign(band.style, {
    left: (100 * (patch % columns)) / columns + "%", top: (100 * Math.floor(patch / columns)) / rows + "%",
    width: 100 / columns + "%", height: 100 / rows + "%",
  });
  $("over").append(band);
}
