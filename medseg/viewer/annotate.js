"use strict";
// The page of medseg annotate. What is drawn lies on the server, stroke by stroke; the page shows it.

const POLL = 3000; // ms between two looks at a training that is under way
const HEADER = 352; // bytes of a NIfTI file before its voxels
const TOOLS = {
  look: ["look", "L"], brush: ["brush", "B"], eraser: ["eraser", "E"],
  point: ["click", "C"], box: ["box", "X"], scribble: ["scribble", "S"], lasso: ["lasso", "O"],
};
const PROMPTS = new Set(["point", "box", "scribble", "lasso"]);

const state = {
  cases: [], labels: [], model: null, label: null, tool: "look", case: null, grid: null, turn: 0,
  stroke: null, marks: [], mouse: null, queue: Promise.resolve(), redraw: false, status: null, polling: null,
  drawn: null, // the voxels of the stroke that is being drawn
  pending: [], // strokes that the server has not answered: what it says before lies beneath them
  version: "", // of the label map that is shown
};

const at = (what) => `case/${encodeURIComponent(state.case)}/${what}`;

async function begin() {
  await nv.attachToCanvas($("canvas"));
  nv.opts.multiplanarShowRender = niivue.SHOW_RENDER.NEVER; // three planes, as large as there is room
  VIEWS.four[0] = "three planes";
  delete VIEWS.render;
  const draw = nv.drawScene.bind(nv);
  nv.drawScene = () => { const place = draw(); overlay(); return place; };
  nv.onLocationChange = tellPlace;
  viewButtons();
  $("tools").replaceChildren(...Object.entries(TOOLS).map(([name, [text, key]]) => {
    const button = Object.assign(document.createElement("button"), { textContent: text, title: `${text} (${key})` });
    button.dataset.tool = name;
    button.onclick = () => take(name);
    return button;
  }));
  $("cases").onchange = (event) => open(event.target.value);
  $("previous").onclick = () => step(-1);
  $("following").onclick = () => step(1);
  $("next").onclick = next;
  $("undo").onclick = undo;
  $("interpolate").onclick = interpolate;
  $("first-mask").onclick = () => asked("first-mask", { keeps_drawn: true });
  $("save").onclick = save;
  $("train").onclick = train;
  $("size").oninput = () => { tellSize(); overlay(); };
  $("opacity").oninput = () => nv.setDrawOpacity($("opacity").value / 100);
  $("new-label").onsubmit = addLabel;
  $("label-colour").oninput = () => { $("label-colour").dataset.chosen = "yes"; };
  const main = document.querySelector("main");
  main.addEventListener("mousedown", onDown, true);
  window.addEventListener("mousemove", onMove, true);
  window.addEventListener("mouseup", onUp, true);
  main.addEventListener("mouseleave", () => { state.mouse = null; overlay(); });
  main.addEventListener("dblclick", (event) => { if (state.tool !== "look") event.stopImmediatePropagation(); }, true);
  document.addEventListener("keydown", onKey);
  tellKeys([["1–9", "label"], ["B E", "brush, eraser"], ["[ ]", "size of the brush"], ["C X S O", "click, box, scribble, lasso"],
    ["shift", "this does not belong to the label"], ["I", "interpolate"], ["Ctrl-Z", "undo"], ["Ctrl-S", "save"], ["N", "next case"],
    ["V", "other view"], ["wheel", "scroll slices"], ["right", "grey window"]]);
  tell(await fetched("state.json"));
  look(view);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = state.cases.find((each) => each.case_id === wanted) || state.cases.find((each) => each.state === "draft") || state.cases.find((each) => each.state === "new") || state.cases[0];
  await Promise.all([open(first.case_id), watch()]);
}

// Shows what the server says of the folder.
function tell(described) {
  const { title, cases, labels, model, strategies, annotator } = described;
  Object.assign(state, { cases, labels, model });
  document.title = `${title} · medseg annotate`;
  $("title").textContent = title;
  const done = cases.filter((each) => each.state === "saved").length;
  $("case-heading").textContent = `Cases (${done} of ${cases.length} done)`;
  const mark = { saved: "✓", draft: "…", new: " " };
  $("cases").replaceChildren(...cases.map(({ case_id, state: how, held_back }) =>
    new Option(`${mark[how]} ${case_id}${held_back ? "  (held back)" : ""}`, case_id)));
  if (state.case) $("cases").value = state.case;
  if (!$("strategy").children.length) $("strategy").replaceChildren(...strategies.map((name) => new Option(name, name)));
  if (!labels.some((each) => each.name === state.label)) state.label = labels.length ? labels[0].name : null;
  $("labels").replaceChildren(...labels.map((label, i) => {
    const row = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "label", checked: label.name === state.label });
    radio.onchange = () => choose(label.name);
    row.dataset.chosen = label.name === state.label;
    row.dataset.label = label.name;
    row.append(radio, swatch(label.colour), Object.assign(document.createElement("span"), { className: "name", textContent: label.name }));
    if (i < 9) row.append(Object.assign(document.createElement("span"), { className: "amount", textContent: i + 1 }));
    return row;
  }));
  for (const button of $("tools").children) {
    const name = button.dataset.tool;
    button.disabled = name !== "look" && (!state.label || (PROMPTS.has(name) && !(model && model.prompts)));
    if (PROMPTS.has(name) && !(model && model.prompts)) button.title = "needs a model that was trained with --prompts";
  }
  $("first-mask").disabled = !model;
  $("interpolate").disabled = !state.label;
  $("save").title = `save as ${annotator} (Ctrl-S)`;
  if (state.tool !== "look" && $("tools").querySelector(`[data-tool="${state.tool}"]`).disabled) state.tool = "look";
  take(state.tool);
  colour();
}

async function open(caseId) {
  const turn = ++state.turn;
  Object.assign(state, { case: caseId, grid: null, marks: [], stroke: null, pending: [] });
  history.replaceState(null, "", `#${encodeURIComponent(caseId)}`);
  $("cases").value = caseId;
  $("busy").hidden = false;
  problem("");
  $("saved").textContent = "";
  try {
    await state.queue;
    const scene = await fetched(at("scene.json"));
    if (turn !== state.turn) return;
    $("grid").textContent = scene.grid;
    $("notes").textContent = scene.notes.join("; ");
    nv.closeDrawing();
    const [low, high] = scene.window;
    await nv.loadVolumes([{ url: at("image.nii"), colormap: "gray", cal_min: low, cal_max: high }]);
    if (turn !== state.turn) return;
    state.grid = { dims: scene.shape, spacing: scene.spacing };
    $("ball").disabled = scene.flat;
    nv.createEmptyDrawing();
    state.drawn = new Uint8Array(nv.drawBitmap.length);
    nv.setDrawOpacity($("opacity").value / 100);
    colour();
    await reload(turn);
    nv.setClipPlane([-10, 0, 0]);
    if (scene.flat) look("axial"); else VIEWS[view][1]();
    tellSize();
    nv.createOnLocationChange();
  } catch (error) {
    if (turn === state.turn) problem(error.message);
  } finally {
    if (turn === state.turn) $("busy").hidden = true;
  }
}

// Reads what is drawn from the server.
async function reload(turn = state.turn) {
  const answer = await fetch(at("drawing.nii"));
  if (!answer.ok) throw new Error(await reason(answer));
  const voxels = new Uint8Array(await answer.arrayBuffer(), HEADER);
  if (turn !== state.turn) return;
  state.version = answer.headers.get("X-Version");
  nv.drawBitmap.set(voxels);
  redrawStrokes();
}

// Draws what the server does not know yet over what it said.
function redrawStrokes() {
  for (const { box, values } of state.pending) pasteStroke(nv.drawBitmap, state.grid, box, values);
  const box = state.stroke?.box;
  if (box) pasteStroke(nv.drawBitmap, state.grid, box, strokePart(state.drawn, state.grid, box));
  nv.refreshDrawing(true);
}

function colour() {
  if (!nv.volumes.length) return;
  const all = [[0, 0, 0], ...state.labels.map((each) => each.colour)];
  const column = (i) => all.map((rgb) => rgb[i]);
  nv.setDrawColormap({ R: column(0), G: column(1), B: column(2), A: all.map((_, i) => (i ? 255 : 0)), I: all.map((_, i) => i), labels: ["", ...state.labels.map((each) => each.name)] });
}

function choose(name) {
  state.label = name;
  for (const row of $("labels").children) {
    row.dataset.chosen = row.dataset.label === name;
    row.firstChild.checked = row.dataset.label === name;
  }
}

function take(name) {
  const button = $("tools").querySelector(`[data-tool="${name}"]`);
  if (button.disabled) return;
  state.tool = name;
  document.querySelector("main").dataset.tool = name;
  for (const each of $("tools").children) each.setAttribute("aria-pressed", each === button);
  nv.setCrosshairWidth(name === "look" ? 0.25 : 0); // nothing hides what is drawn
  overlay();
}

function problem(text) { $("problem").textContent = text; }

async function reason(answer) {
  try { return (await answer.json()).detail; } catch { return `${answer.status}; is medseg annotate still running?`; }
}

// Sends changes one after the other, so that they are applied in the order in which they were made.
function send(address, body, headers = {}) {
  const turn = state.turn;
  const sent = state.queue.then(async () => {
    const answer = await fetch(address, { method: "POST", body, headers: { ...headers, "X-Version": state.version } });
    if (!answer.ok) throw new Error(await reason(answer));
    problem("");
    const before = answer.headers.get("X-Version-Before");
    if (before && turn === state.turn) {
      const missed = before !== state.version; // another window has drawn, or another program
      state.version = answer.headers.get("X-Version");
      if (missed && state.grid) await reload(turn);
    }
    return answer;
  });
  state.queue = sent.catch(async (error) => {
    problem(error.message);
    if (turn === state.turn && state.grid) await reload(turn).catch(() => {}); // what was not taken is not shown
  });
  return sent;
}

// Asks for a change and shows it.
async function asked(what, message) {
  const turn = state.turn;
  $("busy").textContent = "working …";
  $("busy").hidden = false;
  try {
    const answer = await send(at(what), JSON.stringify(message), { "Content-Type": "application/json" });
    if (turn === state.turn) await show(answer);
    return answer.status !== 204;
  } catch {
    return false; // send has told it
  } finally {
    $("busy").hidden = true;
    $("busy").textContent = "reading …";
  }
}

async function show(answer) {
  changed();
  if (answer.status === 204) return;
  const ends = answer.headers.get("X-Bounds").split(",").map(Number);
  const box = [0, 1, 2].map((axis) => [ends[2 * axis], ends[2 * axis + 1]]);
  paste(nv.drawBitmap, state.grid, box, new Uint8Array(await answer.arrayBuffer()));
  redrawStrokes();
}

function changed() { $("saved").textContent = "kept as a draft, not saved yet"; }

const value = () => state.labels.findIndex((each) => each.name === state.label) + 1;

// The radius of the brush in mm: from half a voxel to a sixth of the image, in even ratios.
function radius() {
  if (!state.grid) return 1;
  const { dims, spacing } = state.grid;
  const sizes = dims.map((n, axis) => n * spacing[axis]).filter((_, axis) => dims[axis] > 1);
  const least = Math.min(...spacing.filter((_, axis) => dims[axis] > 1)) / 2, most = Math.max(least, Math.max(...sizes) / 6);
  return least * (most / least) ** ($("size").value / 100);
}

function tellSize() { $("size-shown").textContent = `${(2 * radius()).toPrecision(2)} mm`; }

// Where an event lies: the plane, and the place in voxels; null outside of slices.
function placeOf(event) {
  if (!state.grid || !nv.volumes.length) return null;
  const canvas = nv.gl.canvas.getBoundingClientRect(), scale = nv.uiData.dpr;
  const x = (event.clientX - canvas.left) * scale, y = (event.clientY - canvas.top) * scale;
  const tile = nv.tileIndex(x, y);
  if (tile < 0 || nv.screenSlices[tile].axCorSag > 2) return null;
  const frac = nv.screenXY2TextureFrac(x, y, tile, false);
  const place = Array.from(frac, (part, axis) => part * state.grid.dims[axis]);
  const inside = place.every((each, axis) => each >= 0 && each < state.grid.dims[axis]);
  return { plane: nv.screenSlices[tile].axCorSag, place, inside, x, y };
}

function brush(positive) {
  const keep = $("keep").checked, now = value(), drawn = positive ? now : 0;
  // The eraser takes away the chosen label only, where other labels are to stay.
  const over = (old) => !keep || old === now || (positive && old === 0);
  const plane = $("ball").checked && !$("ball").disabled ? null : state.stroke.plane;
  return { radius: radius(), plane, value: drawn, over, drawn: state.drawn };
}

function onDown(event) {
  if (event.button !== 0 || state.tool === "look" || !(event.target instanceof HTMLCanvasElement)) return;
  const found = placeOf(event);
  if (!found || !found.inside) return; // 3D is turned as ever
  event.preventDefault();
  event.stopImmediatePropagation();
  document.activeElement?.blur();
  nv.scene.crosshairPos = found.place.map((each, axis) => each / state.grid.dims[axis]); // the other planes follow
  nv.drawScene();
  state.stroke = { ...found, tool: state.tool, places: [found.place], box: EMPTY, positive: !event.shiftKey };
  if (state.tool === "brush" || state.tool === "eraser") dabs(found.place);
}

function dabs(place) {
  const { stroke } = state;
  const last = stroke.places.at(-1);
  const drawn = line(nv.drawBitmap, state.grid, last, place, brush(stroke.tool === "brush" && stroke.positive));
  stroke.box = around(stroke.box, drawn);
  if (!state.redraw) {
    state.redraw = true;
    requestAnimationFrame(() => { state.redraw = false; if (state.grid) nv.refreshDrawing(true); });
  }
}

function onMove(event) {
  state.mouse = placeOf(event);
  const { stroke } = state;
  if (stroke) {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (state.mouse && state.mouse.plane === stroke.plane) {
      if (stroke.tool === "brush" || stroke.tool === "eraser") dabs(state.mouse.place);
      stroke.places.push(state.mouse.place);
    }
  }
  if (stroke || state.tool !== "look") overlay();
}

async function onUp(event) {
  const { stroke } = state;
  if (!stroke) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  state.stroke = null;
  const { tool, plane, places, positive } = stroke;
  if (tool === "brush" || tool === "eraser") {
    const { box } = stroke;
    if (!box) return;
    changed();
    const drawn = { box, values: strokePart(state.drawn, state.grid, box) };
    paste(state.drawn, state.grid, box, new Uint8Array(drawn.values.length));
    state.pending.push(drawn);
    await send(at("edit"), drawn.values, { "X-Bounds": box.flat().join() }).catch(() => {});
    state.pending = state.pending.filter((each) => each !== drawn);
    return;
  }
  const message = { kind: tool, label: state.label, positive, keeps_others: $("keep").checked };
  const { dims } = state.grid;
  if (tool === "point") {
    message.place = places[0].map(Math.floor);
  } else if (tool === "box") {
    const last = places.at(-1), across = IN_PLANE[plane][2];
    message.bounds = places[0].map((first, axis) => {
      const low = Math.floor(Math.min(first, axis === across ? first : last[axis])), high = Math.floor(Math.max(first, axis === across ? first : last[axis]));
      return [Math.max(0, low), Math.min(dims[axis], high + 1)];
    });
  } else {
    const [box, values] = tool === "lasso" ? filled(places, state.grid, plane) : scribbled(places, plane);
    if (!values.some(Boolean)) return;
    message.bounds = box;
    message.voxels = bits(values);
  }
  state.marks.push({ tool, plane, places, positive });
  overlay();
  if (!(await asked("prompt", message))) $("saved").textContent ||= "nothing changed";
}

// A line of about three voxels, as a box and its values of 0 and 1.
function scribbled(places, plane) {
  const paper = new Uint8Array(state.grid.dims.reduce((one, other) => one * other));
  const spacing = state.grid.spacing, thin = { radius: 1.5 * Math.min(...IN_PLANE[plane].slice(0, 2).map((axis) => spacing[axis])), plane, value: 1, over: () => true };
  let box = EMPTY;
  places.forEach((place, i) => { box = around(box, line(paper, state.grid, places[Math.max(0, i - 1)], place, thin)); });
  return [box, part(paper, state.grid, box)];
}

// Draws the brush, what is being marked, and the prompts of this slice.
function overlay() {
  const paper = $("outlines"), context = paper.getContext("2d");
  if (paper.width !== nv.gl.canvas.width || paper.height !== nv.gl.canvas.height) {
    paper.width = nv.gl.canvas.width;
    paper.height = nv.gl.canvas.height;
  }
  context.clearRect(0, 0, paper.width, paper.height);
  if (!state.grid || !nv.volumes.length) return;
  const { dims, spacing } = state.grid, scale = nv.uiData.dpr;
  for (const tile of nv.screenSlices) {
    if (tile.axCorSag > 2) continue;
    const plane = tile.axCorSag, [column, row, across] = IN_PLANE[plane], place = placing(plane, dims);
    if (!place) continue;
    context.save();
    context.beginPath();
    context.rect(...tile.leftTopWidthHeight);
    context.clip();
    const slice = Math.floor(nv.scene.crosshairPos[across] * dims[across]);
    const here = (voxel) => [place.x(voxel[column], voxel[row]), place.y(voxel[column], voxel[row])];
    for (const mark of state.stroke && PROMPTS.has(state.stroke.tool) ? [...state.marks, state.stroke] : state.marks) {
      if (Math.floor(mark.places[0][across]) === slice && (mark.tool === "point" || mark.plane === plane)) drawMark(context, mark, here, scale);
    }
    const mouse = state.mouse;
    if ((state.tool === "brush" || state.tool === "eraser") && mouse && mouse.inside && mouse.plane === plane) {
      const [x, y] = here(mouse.place), size = [column, row].map((axis) => radius() / spacing[axis]);
      const width = Math.abs(place.x(size[0], 0) - place.x(0, 0)), height = Math.abs(place.y(0, size[1]) - place.y(0, 0));
      const circle = new Path2D();
      circle.ellipse(x, y, Math.max(width, 2), Math.max(height, 2), 0, 0, 2 * Math.PI);
      stroke(context, circle, "rgba(0, 0, 0, 0.6)", 3 * scale);
      stroke(context, circle, state.tool === "eraser" ? "#fff" : `rgb(${state.labels[value() - 1].colour.join()})`, 1.5 * scale);
    }
    context.restore();
  }
}

function drawMark(context, { tool, places, positive }, here, scale) {
  const path = new Path2D(), colour = positive ? "#39d353" : "#ff5d52";
  if (tool === "point") {
    const [x, y] = here(places[0]);
    path.arc(x, y, 4 * scale, 0, 2 * Math.PI);
  } else if (tool === "box") {
    const [x, y] = here(places[0]), [u, v] = here(places.at(-1));
    path.rect(x, y, u - x, v - y);
  } else {
    places.forEach((place, i) => (i ? path.lineTo(...here(place)) : path.moveTo(...here(place))));
    if (tool === "lasso") path.closePath();
  }
  stroke(context, path, "rgba(0, 0, 0, 0.6)", 4 * scale);
  stroke(context, path, colour, 2 * scale);
}

async function undo() {
  if (await asked("undo", {})) state.marks.pop();
  overlay();
}

async function interpolate() {
  if (!state.label || !state.grid) return;
  const { spacing, dims } = state.grid;
  const planes = { axial: 2, coronal: 1, sagittal: 0 };
  const coarsest = spacing.indexOf(Math.max(...spacing.filter((_, axis) => dims[axis] > 1)));
  await asked("interpolate", { label: state.label, axis: planes[view] ?? (spacing.every((each) => each === spacing[0]) ? 2 : coarsest) });
}

async function save() {
  try {
    const answer = await send(at("save"), "");
    tell(await answer.json());
    $("saved").textContent = `saved at ${new Date().toLocaleTimeString()}`;
    state.marks = [];
    overlay();
  } catch { /* send has told it */ }
}

async function addLabel(event) {
  event.preventDefault();
  const name = $("label-name").value.trim(), chosen = $("label-colour");
  if (!name) return;
  const hex = chosen.value.slice(1).match(/../g).map((each) => parseInt(each, 16));
  try {
    const answer = await send("labels", JSON.stringify({ name, colour: chosen.dataset.chosen ? hex : null }), { "Content-Type": "application/json" });
    tell(await answer.json());
    choose(name);
    $("label-name").value = "";
    delete chosen.dataset.chosen;
  } catch { /* send has told it */ }
}

function step(by) {
  const number = state.cases.findIndex((each) => each.case_id === state.case) + by;
  if (state.cases[number]) open(state.cases[number].case_id);
}

async function next() {
  await state.queue;
  try {
    const choice = await fetched(`next.json?${new URLSearchParams({ strategy: $("strategy").value, shown: state.case })}`);
    $("reason").textContent = choice ? choice.reason : "every case is done";
    if (choice) await open(choice.case_id);
  } catch (error) { problem(error.message); }
}

async function train() {
  const start = state.status !== "RUNNING";
  try {
    const answer = await fetch("training", { method: "POST", body: JSON.stringify({ start }), headers: { "Content-Type": "application/json" } });
    if (!answer.ok) throw new Error(await reason(answer));
    await tellTraining(await answer.json());
  } catch (error) { problem(error.message); }
}

// Looks at the training now and then: often while one is under way.
async function watch() {
  clearTimeout(state.polling);
  try { await tellTraining(await fetched("training.json")); } catch { /* told when something else is asked */ }
  state.polling = setTimeout(watch, state.status === "RUNNING" ? POLL : 5 * POLL);
}

async function tellTraining(status) {
  const before = state.status;
  state.status = status.status;
  const steps = { preprocess: "preparing", train: "training", predict: "predicting", evaluate: "measuring" };
  const seconds = status.begun ? Math.round((Date.now() - new Date(status.begun)) / 1000) : 0;
  $("training").textContent = status.status === "RUNNING" ? `${steps[status.step] || status.step}, for ${Math.floor(seconds / 60)} min ${seconds % 60} s` : status.message || `${status.cases} cases to train on`;
  $("under-way").hidden = status.status !== "RUNNING";
  $("train").textContent = status.status === "RUNNING" ? "stop training" : "train on what is drawn";
  $("train").disabled = status.status !== "RUNNING" && status.cases < 2;
  drawCurve(status.curve.points);
  if (before === "RUNNING" && status.status === "DONE") tell(await fetched("state.json"));
  if (before !== "RUNNING" && status.status === "RUNNING") watch();
}

// The Dice of held-back cases by the number of cases that were trained on.
function drawCurve(points) {
  const measured = points.filter((each) => each.dice !== null);
  $("curve").style.display = measured.length ? "" : "none";
  if (!measured.length) return;
  const most = Math.max(...measured.map((each) => each.cases)), low = Math.max(0, Math.min(...measured.map((each) => each.dice)) - 0.05);
  const high = Math.min(1, Math.max(...measured.map((each) => each.dice)) + 0.05);
  const x = (cases) => 30 + (cases / most) * 200, y = (dice) => 90 - ((dice - low) / (high - low)) * 80;
  const make = (kind, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, each] of Object.entries(attributes)) element.setAttribute(name, each);
    element.textContent = text;
    return element;
  };
  const sorted = [...measured].sort((one, other) => one.cases - other.cases);
  $("curve").replaceChildren(
    make("line", { x1: 30, y1: 90, x2: 232, y2: 90 }), make("line", { x1: 30, y1: 8, x2: 30, y2: 90 }),
    make("text", { x: 2, y: y(high) + 8 }, high.toFixed(2)), make("text", { x: 2, y: y(low) }, low.toFixed(2)),
    make("text", { x: 232, y: 104, "text-anchor": "end" }, `${most} cases`), make("text", { x: 34, y: 16 }, "Dice of held-back cases"),
    make("path", { d: sorted.map((each, i) => `${i ? "L" : "M"}${x(each.cases)},${y(each.dice)}`).join("") }),
    ...sorted.map((each) => { const dot = make("circle", { cx: x(each.cases), cy: y(each.dice), r: 3 }); dot.append(make("title", {}, `${each.cases} cases: ${each.dice.toFixed(3)}`)); return dot; }),
  );
}

function tellPlace(place) {
  if (!state.grid || !place.values.length) return;
  const [x, y, z] = Array.from(place.mm, (mm) => mm.toFixed(1)), { dims } = state.grid;
  const [i, j, k] = Array.from(nv.scene.crosshairPos, (part, axis) => Math.min(dims[axis] - 1, Math.max(0, Math.floor(part * dims[axis]))));
  const label = state.labels[(nv.drawBitmap?.[i + dims[0] * (j + dims[1] * k)] || 0) - 1];
  $("place").textContent = [`R ${x}  A ${y}  S ${z} mm`, `${Number(place.values[0].value.toPrecision(5))}`, ...(label ? [label.name] : [])].join("   ");
}

function onKey(event) {
  if (event.target.matches?.('select, input[type="text"]')) return;
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
  const views = Object.keys(VIEWS);
  const size = (by) => { $("size").value = Number($("size").value) + by; tellSize(); overlay(); };
  const actions = command ? { z: undo, s: save } : {
    n: next, p: () => step(-1), i: interpolate, "[": () => size(-5), "]": () => size(5),
    v: () => look(views[(views.indexOf(view) + 1) % views.length]),
    ...Object.fromEntries(Object.entries(TOOLS).map(([name, [, letter]]) => [letter.toLowerCase(), () => take(name)])),
    ...Object.fromEntries(state.labels.slice(0, 9).map((label, i) => [String(i + 1), () => choose(label.name)])),
  };
  if (event.altKey || !actions[key]) return;
  actions[key]();
  event.preventDefault();
}

begin().catch((error) => problem(error.message));
