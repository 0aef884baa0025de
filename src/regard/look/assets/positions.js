"use strict";
// The tab of the position schemes; page.js calls drawPositions().
function drawPositions() {
  const figure = (caption, ...parts) => element("figure", {}, ...parts, element("figcaption", {}, caption));
  const map = (rows, label, scale) => {
    const canvas = element("canvas", { role: "img", "aria-label": label }), all = rows.flat().filter((value) => value !== null);
    const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    paint(canvas, rows.length, rows[0].length, (i, j) => (rows[i][j] === null ? hiddenColor : ramp[Math.round((255 * (rows[i][j] - low)) / (high - low || 1))]));
    return [canvas, `from ${fixed(low / scale, 2)} (as the ground) to ${fixed(high / scale, 2)} (strongest)`];
  };
  $("schemes").replaceChildren(...data.positions.map((one) => {
    const parts = [], how = DOORS[one.door], count = (one.table || one.similarity || []).length;
    if (one.table) {
      const [canvas, range] = map(one.table, "What is added at each position", one.scale);
      canvas.style.height = clamp(4 * one.table.length, 120, 320) + "px";
      parts.push(figure(`A row for each position from 0 to ${count - 1}, a column for each of ${one.table[0].length} dimensions; ${range}.`, canvas));
    }
    if (one.byHead)
      parts.push(figure(`The bias of each head by offset, key less query, between ${extremes(one.byHead)}; the first head is the faintest.`, curves(one.byHead, "Bias by offset"), axis(one.byHead[0])));
    parts.push(element("div", { class: one.grid ? "two maps" : "two" }, ...(one.grid ? ofGrid(one, how[1]) : ofText(one, how[1]))));
    return element("section", {}, element("h3", {}, `${one.stack}: ${one.kind}, ${how[0]}`), ...parts);
  }));

  function ofText(one, what) {
    const [square, range] = map(one.similarity, "How alike each pair of positions is", one.scale);
    square.style.aspectRatio = "1";
    return [figure(`${what} of each pair of positions, ${range}.`, square),
      figure(`Its mean by offset, between ${extremes([one.byOffset])}: near positions in the middle, far ones at the sides.`, curves([one.byOffset], "Similarity by offset"), axis(one.byOffset))];
  }
  // The maps of some patches, each where it stands in the picture (ViT's figure 7).
  function ofGrid(one, what) {
    const [rows, columns] = one.grid, gap = null;
    const drawn = one.maps.flatMap((line) => [...Array.from({ length: rows }, (_, i) => line.flatMap((found) => [...found[i], gap])), line.flatMap(() => Array(columns + 1).fill(gap))]);
    const [canvas, range] = map(drawn.slice(0, -1).map((row) => row.slice(0, -1)), "How alike each patch is to all others", one.scale);
    canvas.style.aspectRatio = `${drawn[0].length - 1} / ${drawn.length - 1}`;
    const some = one.maps.length === rows && one.maps[0].length === columns ? "each patch" : `${one.maps.length} × ${one.maps[0].length} of ${rows} × ${columns} patches`;
    return [figure(`${what} of ${some} to all patches, a map for each, where it stands in the picture; ${range}.`, canvas),
      ...["in one column", "in one row"].map((where, n) => figure(`Its mean ${where}, by patches apart, between ${extremes([one.byAxis[n]])}.`, curves([one.byAxis[n]], "Similarity " + where), axis(one.byAxis[n])))];
  }
}
const DOORS = {
  added: ["added to the states", "Cosine"], turned: ["turned into queries and keys", "Dot product"], bias: ["on the scores", "Bias (the heads' mean)"],
};
const extremes = (lines) => { const all = lines.flat(); return `${fixed(Math.min(...all), 2)} and ${fixed(Math.max(...all), 2)}`; };
function axis(values) {
  const far = (values.length - 1) / 2;
  return element("div", { class: "axis" }, element("span", {}, "−" + far), element("span", {}, "offset 0"), element("span", {}, "+" + far));
}
function curves(lines, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), all = lines.flat(), low = Math.min(0, ...all), high = Math.max(...all);
  const y = (value) => 100 - (100 * (value - low)) / (high - low || 1), x = (n, values) => (100 * n) / (values.length - 1 || 1);
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${label}, between ${extremes(lines)}`);
  const draw = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    svg.append(made);
    return made;
  };
  draw("line", { x1: 0, x2: 100, y1: y(0), y2: y(0) });
  draw("line", { x1: 50, x2: 50, y1: 0, y2: 100 });
  lines.forEach((values, n) => {
    const path = draw("path", { d: "M" + values.map((value, at) => `${x(at, values)},${y(value)}`).join("L") });
    if (lines.length > 1) path.style.stroke = `rgb(${ramp[Math.round(255 * (0.25 + (0.75 * (n + 1)) / lines.length))].join(" ")})`;
  });
  return svg;
}
