"use strict";
// Everything shown comes from #data as text: nothing of a model is ever parsed as HTML.

const graphs = JSON.parse(document.getElementById("data").textContent);
const articles = [...document.querySelectorAll("article.graph")];
const details = document.getElementById("details");
const tip = document.getElementById("tip");
const search = document.getElementById("search");
const found = document.getElementById("found");
const picker = document.getElementById("picker");
let current = 0;

const article = () => articles[current];
const nodeAt = (index) => article().querySelector(`.node[data-node="${index}"]`);
const graph = () => graphs[current];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// ---- source text in colours -------------------------------------------------------------------

const PYTHON = [
  ["c", /#[^\n]*/],
  ["s", /"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/],
  ["m", /@[\w.]+/],
  ["k", /\b(?:def|return|for|in|if|else|elif|while|range|and|or|not|is|None|True|False|import|from|as|assert)\b/],
  ["f", /\b(?:tl|libdevice|math)\.[\w.]+/],
  ["m", /\b\d[\w.]*(?:[eE][-+]?\d+)?\b/],
];
const IR = [
  ["q", / loc "(?:\\.|[^"\\])*"| scope "(?:\\.|[^"\\])*"/],
  ["s", /"(?:\\.|[^"\\])*"/],
  ["f", /%[\w.]+/],
  ["k", /\b(?:graph|return|weight|strides)\b|\b(?:tensor|nn|fused|state|aten|quant|moe|cache|loop|dist)\.[\w.]+/],
  ["m", /\b(?:bool|size|(?:bf|f|i|u|c)\d+\w*)\[[^\]]*\]/],
];

function coloured(text, grammar) {
  const whole = new RegExp(grammar.map(([, rule]) => `(${rule.source})`).join("|"), "g");
  const parts = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(whole)) {
    parts.append(text.slice(at, match.index));
    const kind = match.slice(1).findIndex((group) => group !== undefined);
    parts.append(make("span", { class: grammar[kind][0] }, match[0]));
    at = match.index + match[0].length;
  }
  parts.append(text.slice(at));
  return parts;
}

const code = (text, grammar) => make("pre", { class: "code", tabindex: "0" }, coloured(text, grammar));

// ---- the drawing: zoom and pan ----------------------------------------------------------------

const views = articles.map((one) => {
  const svg = one.querySelector(".drawing");
  return svg && { svg, scene: svg.querySelector(".scene"), width: +svg.dataset.width, height: +svg.dataset.height, x: 0, y: 0, scale: 0 };
});

function show(view) {
  view.scene.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
}

function fit(view, whole) {
  const { clientWidth: width, clientHeight: height } = view.svg;
  const across = (width - 24) / view.width;
  view.scale = whole ? Math.min(across, (height - 24) / view.height, 1.2) : Math.min(1, Math.max(0.55, across));
  view.x = (width - view.width * view.scale) / 2;
  view.y = whole ? Math.max(12, (height - view.height * view.scale) / 2) : 12;
  show(view);
}

function zoom(view, factor, x = view.svg.clientWidth / 2, y = view.svg.clientHeight / 2) {
  const scale = Math.min(4, Math.max(0.05, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  show(view);
}

function pan(view, x, y) {
  const keep = (at, by, size, room) => {
    const [low, high] = [Math.min(12, room - size * view.scale - 12), Math.max(12, room - size * view.scale - 12)];
    return by > 0 ? Math.max(at, Math.min(at + by, high)) : Math.min(at, Math.max(at + by, low));
  };
  const { clientWidth: width, clientHeight: height } = view.svg;
  const to = [keep(view.x, x, view.width, width), keep(view.y, y, view.height, height)];
  const moved = to[0] !== view.x || to[1] !== view.y;
  [view.x, view.y] = to;
  show(view);
  return moved;
}

// How much of the drawing's width the details leave to be seen.
function uncovered(view) {
  const { left, right } = view.svg.getBoundingClientRect();
  return Math.max(200, (details.hidden ? right : Math.min(right, details.getBoundingClientRect().left)) - left);
}

function centre(view, node) {
  const [x, y] = node.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
  const box = node.querySelector(".box");
  if (view.scale < 0.5) view.scale = 0.9;
  view.x = uncovered(view) / 2 - (x + box.getAttribute("width") / 2) * view.scale;
  view.y = view.svg.clientHeight / 2 - (y + box.getAttribute("height") / 2) * view.scale;
  show(view);
}

function reveal(view, node) {
  const box = node.getBoundingClientRect();
  const frame = view.svg.getBoundingClientRect();
  if (box.left < frame.left || box.right > frame.left + uncovered(view) || box.top < frame.top || box.bottom > frame.bottom) centre(view, node);
}

function steer(view) {
  const canvas = view.svg.parentElement;
  let from = null;
  let moved = false;
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      const box = view.svg.getBoundingClientRect();
      zoom(view, Math.exp(-event.deltaY * 0.008), event.clientX - box.left, event.clientY - box.top);
    } else if (!pan(view, -event.deltaX, -event.deltaY)) return; // at the edge the page scrolls on
    event.preventDefault();
  }, { passive: false });
  view.svg.addEventListener("pointerdown", (event) => {
    from = { x: event.clientX - view.x, y: event.clientY - view.y, atX: event.clientX, atY: event.clientY };
    moved = false;
  });
  window.addEventListener("pointermove", (event) => {
    if (!from) return;
    if (Math.hypot(event.clientX - from.atX, event.clientY - from.atY) > 4) moved = true;
    if (!moved) return;
    view.svg.classList.add("dragging");
    view.x = event.clientX - from.x;
    view.y = event.clientY - from.y;
    show(view);
  });
  window.addEventListener("pointerup", () => {
    from = null;
    view.svg.classList.remove("dragging");
  });
  view.svg.addEventListener("click", (event) => {
    const node = event.target.closest(".node");
    if (!moved && node) selectNode(+node.dataset.node);
  });
  canvas.addEventListener("keydown", (event) => {
    const pans = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (pans[event.key]) {
      view.x += pans[event.key][0];
      view.y += pans[event.key][1];
      show(view);
    } else if (event.key === "+" || event.key === "=") zoom(view, 1.25);
    else if (event.key === "-") zoom(view, 0.8);
    else if (event.key === "0") fit(view, true);
    else if ((event.key === "Enter" || event.key === " ") && event.target.dataset.node) selectNode(+event.target.dataset.node);
    else return;
    event.preventDefault();
  });
  for (const button of canvas.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "fit") fit(view, true);
      else zoom(view, button.dataset.zoom === "in" ? 1.25 : 0.8);
    });
}

// ---- selecting a step, and what is said of it -------------------------------------------------

function clear() {
  for (const one of document.querySelectorAll(".selected, .near, .edge.on")) one.classList.remove("selected", "near", "on");
}

function close() {
  clear();
  details.hidden = true;
  history.replaceState(null, "", location.pathname + location.search);
}

function selectNode(index, step) {
  const node = graph().nodes[index];
  clear();
  const element = nodeAt(index);
  element.classList.add("selected");
  const reads = new Set();
  const feeds = new Set();
  for (const edge of article().querySelectorAll(".edge")) {
    const [from, to] = [+edge.dataset.from, +edge.dataset.to];
    if (from !== index && to !== index) continue;
    edge.classList.add("on");
    (from === index ? feeds : reads).add(from === index ? to : from);
  }
  for (const other of [...reads, ...feeds]) nodeAt(other).classList.add("near");
  tell(node, step ?? node.steps[0], [...reads], [...feeds]);
  mark(node.steps.concat(...node.repeats));
  reveal(views[current], element);
  history.replaceState(null, "", `#g${current}-n${index}`);
}

function selectStep(step) {
  const node = graph().steps[step].node;
  if (node >= 0) {
    selectNode(node, step);
    centre(views[current], nodeAt(node));
  } else {
    clear();
    tell({ title: graph().steps[step].title, kind: graph().steps[step].kind, steps: [step], repeats: [], text: "", detail: "" }, step, [], []);
    mark([step]);
  }
}

function mark(steps) {
  const wanted = new Set(steps.map((step) => alikeOf(step)));
  for (const one of article().querySelectorAll("tr.pick, circle.pick")) one.classList.toggle("selected", wanted.has(alikeOf(+one.dataset.step)));
}

function alikeOf(step) {
  const s = graph().steps[step];
  return s && [s.kind, s.runs, s.label, s.bytes, s.flops].join("|");
}

function percent(share) {
  return `${(100 * share).toPrecision(share >= 0.1 ? 2 : 1)} %`;
}

function tell(node, chosen, reads, feeds) {
  const step = chosen === undefined ? null : graph().steps[chosen];
  const parts = [make("button", { class: "close", type: "button", "aria-label": "Close details", onclick: close }, "\u00d7"), make("h2", {}, node.title)];
  const kinds = { kernel: "Triton kernel", region: "compiled region", library: "library call", input: "input", output: "output" };
  parts.push(make("p", { class: "lead" }, make("i", { class: `dot ${node.kind}` }), [kinds[node.kind], node.detail].filter(Boolean).join(", ")));
  if (step) parts.push(facts(node, chosen, step));
  if (step && step.line) parts.push(make("h3", {}, "Model source", make("small", {}, step.loc)), codeLine(step.line));
  parts.push(...neighbours("Reads from", reads), ...neighbours("Feeds", feeds));
  const kernel = step && graph().kernels[step.kernel];
  if (node.text) parts.push(make("h3", {}, "What it computes"), code(node.text, IR));
  if (kernel) parts.push(...source(kernel));
  const listings = parts.filter((part, i) => part.tagName === "H3" && parts[i + 1].matches(".code:not(.line)"));
  if (listings.length) parts.splice(3, 0, jumps(listings));
  details.replaceChildren(...parts);
  details.hidden = false;
  details.scrollTop = 0;
}

function jumps(headings) {
  const buttons = headings.map((heading) =>
    make("button", { type: "button", onclick: () => heading.scrollIntoView({ block: "start" }) }, heading.firstChild.textContent));
  return make("div", { class: "links jumps" }, ...buttons);
}

function codeLine(text) {
  const element = code(text, PYTHON);
  element.classList.add("line");
  return element;
}

function facts(node, chosen, step) {
  const count = node.repeats.length + 1;
  const rows = [
    ["Model line", step.loc],
    ["Module", step.scope],
    ["Runs", step.kernel >= 0 ? graph().kernels[step.kernel].name : step.runs],
    ["Grid", step.grid.length ? step.grid.join(" \u00d7 ") : ""],
    ["Measured", step.measured],
    ["Estimate", `${step.estimate}, bound by ${step.bound}`],
    ["Share", `${percent(step.share * count)} of the call${count > 1 ? `, in ${count} blocks` : ""}`],
    ["Moves", step.bytes],
    ["Computes", step.flops],
    ["Step", String(chosen) + (node.repeats.length ? `; the same at ${shortened(node.repeats.map((one) => one[0]))}` : "")],
  ];
  const list = make("dl");
  for (const [name, value] of rows) if (value) list.append(make("dt", {}, name), make("dd", {}, value));
  if (node.steps.length > 1) {
    const others = node.steps.map((one) => make("button", { type: "button", onclick: () => selectNode(step.node, one) }, graph().steps[one].label));
    list.append(make("dt", {}, "Steps"), make("dd", { class: "links" }, ...others));
  }
  return list;
}

function shortened(numbers) {
  return numbers.length <= 7 ? numbers.join(", ") : `${numbers.slice(0, 5).join(", ")}, \u2026, ${numbers.at(-1)}`;
}

function neighbours(title, nodes) {
  if (!nodes.length) return [];
  const buttons = nodes.map((index) => {
    const { title, detail, kind, steps } = graph().nodes[index];
    const scope = steps.length ? graph().steps[steps[0]].scope : "";
    const go = () => {
      selectNode(index);
      centre(views[current], nodeAt(index));
    };
    return make("button", { type: "button", onclick: go }, make("i", { class: `dot ${kind}` }), make("span", {}, title, make("small", {}, [detail, scope].filter(Boolean).join("  "))));
  });
  return [make("h3", {}, title), make("div", { class: "near" }, ...buttons)];
}

function source(kernel) {
  const list = make("dl");
  for (const [name, value] of kernel.options) list.append(make("dt", {}, name), make("dd", {}, value));
  if (kernel.facts.length) list.append(make("dt", {}, "compiled"), make("dd", {}, kernel.facts.join(", ")));
  const title = kernel.kind === "triton" ? "Triton source" : "ATen calls";
  return [make("h3", {}, title, make("small", {}, kernel.name)), code(kernel.source, PYTHON), make("h3", {}, "Launch options"), list];
}

// ---- what is made when it is opened -----------------------------------------------------------

function fillHunks(element) {
  const place = element.querySelector(".hunks");
  if (place.childElementCount) return;
  for (const hunk of graph().hunks[+element.dataset.stage]) {
    const head = make("h4", {}, `line ${hunk.at}`);
    if (hunk.alike.length) head.append(" \u00b7 ", make("b", {}, `the same in ${hunk.alike.length} more place${hunk.alike.length > 1 ? "s" : ""}`), ` (lines ${hunk.alike.slice(0, 8).join(", ")}${hunk.alike.length > 8 ? ", \u2026" : ""})`);
    const kinds = { "+": "add", "-": "cut", " ": "keep" };
    const lines = hunk.lines.map((line) => make("span", { class: `row ${kinds[line[0]]}` }, coloured(line.slice(1), IR)));
    place.append(make("div", { class: "hunk" }, head, make("pre", { tabindex: "0" }, ...lines)));
  }
}

function fillKernel(element) {
  const place = element.querySelector(".code");
  if (!place.childElementCount) place.append(coloured(graph().kernels[+element.dataset.kernel].source, PYTHON));
}

document.addEventListener("toggle", (event) => {
  if (!event.target.open) return;
  if (event.target.dataset.stage) fillHunks(event.target);
  if (event.target.dataset.kernel) fillKernel(event.target);
}, true);

for (const button of document.querySelectorAll(".more"))
  button.addEventListener("click", () => {
    for (const row of button.parentElement.querySelectorAll("[data-more]")) {
      row.removeAttribute("data-more");
      row.hidden = false;
    }
    button.remove();
  });

// ---- search -----------------------------------------------------------------------------------

let hits = [];
let at = -1;

function words(node) {
  const steps = node.steps.concat(...node.repeats).map((step) => graph().steps[step]);
  const kernels = steps.map((step) => (step.kernel >= 0 ? graph().kernels[step.kernel].name : step.runs));
  return [node.title, node.detail, ...steps.flatMap((s) => [s.label, s.ops, s.loc, s.scope]), ...kernels].join(" ").toLowerCase();
}

function find() {
  const text = search.value.trim().toLowerCase();
  const matches = (words) => text.split(/\s+/).every((word) => words.includes(word));
  const nodes = [...article().querySelectorAll(".node")];
  for (const node of nodes) node.classList.remove("hit", "at");
  article().querySelector(".drawing")?.classList.toggle("searching", Boolean(text));
  hits = text ? nodes.filter((node) => matches(words(graph().nodes[+node.dataset.node]))) : [];
  for (const node of hits) node.classList.add("hit");
  for (const row of article().querySelectorAll("[data-find]"))
    row.hidden = text ? !matches(row.dataset.find.toLowerCase()) : row.hasAttribute("data-more");
  at = -1;
  found.textContent = text ? `${hits.length}` : "";
  if (hits.length) centre(views[current], hits[0]);
}

function next(step) {
  if (!hits.length) return;
  if (at >= 0) hits[at].classList.remove("at");
  at = (at + step + hits.length) % hits.length;
  hits[at].classList.add("at");
  found.textContent = `${at + 1}/${hits.length}`;
  selectNode(+hits[at].dataset.node);
  centre(views[current], hits[at]);
}

search.addEventListener("input", find);
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
  else if (event.key === "Escape") {
    search.value = "";
    find();
    search.blur();
  } else return;
  event.preventDefault();
  event.stopPropagation();
});

// ---- the page ---------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, select")) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && !details.hidden) close();
  else if ((event.key === "Enter" || event.key === " ") && event.target.matches("circle.pick")) {
    event.preventDefault();
    selectStep(+event.target.dataset.step);
  }
});

document.addEventListener("click", (event) => {
  const pick = event.target.closest(".pick");
  if (pick && +pick.dataset.step < graph().steps.length) selectStep(+pick.dataset.step);
});

document.addEventListener("pointermove", (event) => {
  const over = event.target.closest?.("[data-tip]");
  tip.hidden = !over;
  if (!over) return;
  tip.textContent = over.dataset.tip;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const top = event.clientY + 18 + tip.offsetHeight > window.innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
});

document.querySelector(".bar nav").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  article()?.querySelector(`[data-section="${link.hash.slice(1)}"]`)?.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
});

function open(index) {
  close();
  current = index;
  articles.forEach((one, i) => (one.hidden = i !== index));
  if (views[index] && !views[index].scale) fit(views[index], false);
  find();
}

views.filter(Boolean).forEach(steer);
if (picker) picker.addEventListener("change", () => open(+picker.value));
const wanted = location.hash.match(/^#g(\d+)-n(\d+)$/);
if (articles.length) {
  open(wanted && articles[+wanted[1]] ? +wanted[1] : 0);
  if (picker) picker.value = current;
  if (wanted && graph().nodes[+wanted[2]]) {
    selectNode(+wanted[2]);
    centre(views[current], nodeAt(+wanted[2]));
  }
}
