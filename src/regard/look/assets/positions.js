"use strict";
// The tab of the position schemes; page.js calls drawPositions().
function drawPositions() {
  const figure = (caption, ...parts) => element("figure", {}, ...parts, element("figcaption", {}, caption));
  const map = (rows, label) => {
    const canvas = element("canvas", { role: "img", "aria-label": label }), all = rows.flat();
    const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    paint(canvas, rows.length, rows[0].length, (i, j) => ramp[Math.round((255 * (rows[i][j] - low)) / (high - low || 1))]);
    return [canvas, `from ${fixed(low / data.scale, 2)} (as the ground) to ${fixed(high / data.scale, 2)} (strongest)`];
  };
  $("schemes").replaceChildren(...data.positions.map((one) => {
    const parts = [], last = one.similarity.length - 1, how = DOORS[one.door];
    if (one.table) {
      const [canvas, range] = map(one.table, "What is added at each position");
      canvas.style.height = clamp(4 * one.table.length, 120, 320) + "px";
      parts.push(figure(`A row for each position from 0 to ${last}, a column for each of ${one.table[0].length} dimensions; ${range}.`, canvas));
    }
    const [square, range] = map(one.similarity, "How alike each pair of positions is");
    square.style.aspectRatio = "1";
    const axis = element("div", { class: "axis" }, element("span", {}, "−" + last), element("span", {}, "offset 0"), element("span", {}, "+" + last));
    const low = fixed(Math.min(...one.byOffset), 2), high = fixed(Math.max(...one.byOffset), 2);
    parts.push(element("div", { class: "two" }, figure(`${how[1]} of each pair of positions, ${range}.`, square),
      figure(`Its mean by offset, between ${low} and ${high}: near positions in the middle, far ones at the sides.`, curve(one.byOffset), axis)));
    return element("section", {}, element("h3", {}, `${one.stack}: ${one.kind}, ${how[0]}`), ...parts);
  }));
}
const DOORS = {
  added: ["added to the states", "Cosine"], turned: ["turned into queries and keys", "Dot product"], bias: ["on the scores", "Bias (the heads' mean)"],
};
function curve(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), low = Math.min(0, ...values), high = Math.max(...values);
  const y = (value) => 100 - (100 * (value - low)) / (high - low || 1), x = (n) => (100 * n) / (values.length - 1 || 1);
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Similarity by offset, from ${fixed(low, 2)} to ${fixed(high, 2)}`);
  const draw = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    svg.append(made);
  };
  draw("line", { x1: 0, x2: 100, y1: y(0), y2: y(0) });
  draw("line", { x1: 50, x2: 50, y1: 0, y2: 100 });
  draw("path", { d: "M" + values.map((value, n) => `${x(n)},${y(value)}`).join("L") });
  return svg;
}
