"use strict";
// The page of medseg view. Volumes and surfaces come from the server beside it; NiiVue draws them.

const WHITE = [235, 240, 244];
const SHOWN_METRICS = { dice: "Dice", surface_dice: "surface Dice", hd95_mm: "HD95", lesion_f1: "lesion F1", centreline_dice: "clDice" };
const MOST_METRICS = 3;
const MOST_SWATCHES = 3; // of the colours of objects

const state = { cases: [], number: 0, scene: null, hidden: new Set(), off: new Set(["errors"]), turn: 0 };

async function begin() {
  await nv.attachToCanvas($("canvas"));
  const draw = nv.drawScene.bind(nv);
  nv.drawScene = () => { const place = draw(); outline(); return place; };
  nv.setMeshThicknessOn2D(0);
  nv.onLocationChange = tellPlace;
  const { title, cases } = await fetched("cases.json");
  state.cases = cases;
  document.title = `${title} · medseg`;
  $("title").textContent = title;
  const ranked = cases.some((each) => Object.keys(each.scores).length);
  $("case-heading").textContent = ranked ? `Cases, the worst first (${cases.length})` : `Case (${cases.length})`;
  $("case-section").hidden = cases.length === 1;
  $("cases").replaceChildren(...cases.map((each, i) => new Option(`${i + 1}. ${each.case_id}`, i)));
  $("cases").onchange = (event) => show(Number(event.target.value));
  $("next").onclick = () => show(state.number + 1);
  $("previous").onclick = () => show(state.number - 1);
  $("opacity").oninput = paint;
  viewButtons();
  document.addEventListener("keydown", onKey);
  const steps = cases.length > 1 ? [["N", ranked ? "next worst case" : "next case"], ["P", "case before"]] : [];
  tellKeys([...steps, ["M", "masks"], ["R", "reference"], ["E", "error map"], ["V", "other view"],
    ["wheel", "scroll slices"], ["left", "move crosshair"], ["right", "grey window"]]);
  look(view);
  await show(0);
}

async function show(number) {
  if (number < 0 || number >= state.cases.length) return;
  const turn = ++state.turn;
  state.number = number;
  $("cases").value = number;
  $("busy").hidden = false;
  let surfaces = [];
  try {
    const scene = await fetched(`case/${number}/scene.json`);
    if (turn !== state.turn) return;
    tell(scene, state.cases[number]);
    if (!scene.error) surfaces = await load(scene, number, turn);
  } catch (error) {
    if (turn === state.turn) $("problem").textContent = error.message;
  } finally {
    if (turn === state.turn) $("busy").hidden = true;
  }
  for (const surface of surfaces) { // one by one, so that slices can be looked at meanwhile
    if (turn !== state.turn) return;
    await nv.addMeshesFromUrl([surface]);
    paint();
  }
}

function tell(scene, listed) {
  state.scene = scene.error ? null : scene;
  $("problem").textContent = scene.error || "";
  $("grid").textContent = scene.grid || "";
  $("notes").textContent = (scene.notes || []).join("; ");
  tellScores(listed.scores);
  $("layers").replaceChildren(...layerSwitches(scene));
  $("labels").replaceChildren(...labelSwitches(scene));
  $("layer-section").hidden = $("label-section").hidden = !(scene.layers || []).length;
}

async function load(scene, number, turn) {
  const [low, high] = scene.window || [0, 1];
  const at = `case/${number}`;
  nv.meshes.slice().forEach((mesh) => nv.removeMesh(mesh));
  await nv.loadVolumes([
    { url: `${at}/image.nii`, colormap: "gray", cal_min: low, cal_max: high },
    ...scene.layers.map((_, i) => ({ url: `${at}/layer${i}.nii`, opacity: 0 })),
    ...(scene.errors ? [{ url: `${at}/errors.nii`, opacity: 0 }] : []),
  ]);
  if (turn !== state.turn) return [];
  if (scene.errors) {
    const { missed, wrong } = scene.errors;
    colour(nv.volumes.at(-1), [{ index: 1, name: "missed", colour: missed }, { index: 2, name: "wrong", colour: wrong }]);
  }
  nv.scene.crosshairPos = nv.mm2frac(scene.start);
  nv.setClipPlane([-10, 0, 0]); // 3D shows the surfaces only, not the image around them
  if (scene.flat) look("axial"); else VIEWS[view][1]();
  nv.createOnLocationChange();
  paint();
  return scene.flat ? [] : scene.layers.flatMap((layer, i) => layer.labels.filter((label) => label.ml > 0).map((label) => ({
    url: `${at}/layer${i}-${label.index}.mz3`, name: `layer${i}-${label.index}.mz3`,
    rgba255: [...(layer.role === "reference" ? WHITE : label.colour), 255],
  })));
}

// Applies all switches to what is loaded.
function paint() {
  const { scene } = state;
  if (!scene || nv.volumes.length < scene.layers.length + 1) return;
  const opacity = $("opacity").value / 100;
  scene.layers.forEach((layer, i) => {
    const volume = nv.volumes[i + 1];
    colour(volume, layer.labels.filter((label) => !state.hidden.has(label.name)));
    volume.opacity = state.off.has(layer.name) || layer.role === "reference" ? 0 : opacity;
  });
  if (scene.errors) nv.volumes.at(-1).opacity = state.off.has("errors") ? 0 : 0.75;
  for (const mesh of nv.meshes) {
    const [i, index] = mesh.name.match(/\d+/g).map(Number);
    const layer = scene.layers[i];
    const label = layer.labels.find((each) => each.index === index);
    mesh.visible = !state.off.has(layer.name) && !state.hidden.has(label.name);
  }
  nv.updateGLVolume();
}

// Draws the edges of masks over the slices, exactly along the voxels; volumes come with axes in RAS.
function outline() {
  const paper = $("outlines"), context = paper.getContext("2d"), { scene } = state;
  if (paper.width !== nv.gl.canvas.width || paper.height !== nv.gl.canvas.height) {
    paper.width = nv.gl.canvas.width;
    paper.height = nv.gl.canvas.height;
  }
  context.clearRect(0, 0, paper.width, paper.height);
  if (!scene || nv.volumes.length < scene.layers.length + 1) return;
  const width = window.devicePixelRatio;
  for (const tile of nv.screenSlices) {
    if (tile.axCorSag > 2) continue;
    const place = placing(tile.axCorSag, nv.volumes[0].dims.slice(1, 4));
    if (!place) continue;
    context.save();
    context.beginPath();
    context.rect(...tile.leftTopWidthHeight);
    context.clip();
    scene.layers.forEach((layer, i) => {
      if (state.off.has(layer.name)) return;
      for (const [index, path] of edges(nv.volumes[i + 1].img, layer, place)) {
        const rgb = layer.role === "reference" ? WHITE : layer.labels.find((label) => label.index === index).colour;
        if (layer.role === "reference") stroke(context, path, "rgba(0, 0, 0, 0.6)", 3.2 * width);
        stroke(context, path, `rgb(${rgb.join()})`, 1.5 * width);
      }
    });
    context.restore();
  }
}

// A path for each label that is shown: the sides where its voxels meet others.
function edges(voxels, layer, { columns, rows, first, step, stride, x, y }) {
  const shown = new Set(layer.labels.filter((label) => !state.hidden.has(label.name)).map((label) => label.index));
  const paths = new Map();
  const at = (u, v) => (u < 0 || v < 0 || u >= columns || v >= rows ? 0 : voxels[first + u * step + v * stride]);
  const add = (index, u0, v0, u1, v1) => {
    if (!shown.has(index)) return;
    if (!paths.has(index)) paths.set(index, new Path2D());
    paths.get(index).moveTo(x(u0, v0), y(u0, v0));
    paths.get(index).lineTo(x(u1, v1), y(u1, v1));
  };
  for (let v = 0; v <= rows; v++) {
    for (let u = 0; u <= columns; u++) {
      const here = at(u, v), left = at(u - 1, v), below = at(u, v - 1);
      if (here !== left) { add(here, u, v, u, v + 1); add(left, u, v, u, v + 1); }
      if (here !== below) { add(here, u, v, u + 1, v); add(below, u, v, u + 1, v); }
    }
  }
  return paths;
}

function colour(volume, labels) {
  const n = Math.max(0, ...labels.map((label) => label.index)) + 1;
  const map = { R: Array(n).fill(0), G: Array(n).fill(0), B: Array(n).fill(0), A: Array(n).fill(0), I: [...Array(n).keys()], labels: Array(n).fill("") };
  for (const { index, name, colour: [red, green, blue] } of labels) {
    map.R[index] = red; map.G[index] = green; map.B[index] = blue; map.A[index] = 255; map.labels[index] = name;
  }
  volume.setColormapLabel(map);
}

function toggle(text, swatch, amount, on, change) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: on });
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: text });
  const end = Object.assign(document.createElement("span"), { className: "amount", textContent: amount });
  box.onchange = () => { change(box.checked); paint(); };
  label.append(box, ...swatch, name, end);
  return label;
}

const switched = (set, name) => (on) => { on ? set.delete(name) : set.add(name); };

function layerSwitches(scene) {
  if (scene.error) return [];
  const rows = scene.layers.map((layer) => {
    const isReference = layer.role === "reference";
    const row = toggle(layer.name, isReference ? [swatch(WHITE, "outline")] : [], isReference ? "outline" : "filled",
      !state.off.has(layer.name), switched(state.off, layer.name));
    row.dataset.layer = layer.role;
    return row;
  });
  if (!scene.errors) return rows;
  const { missed, wrong } = scene.errors;
  const errors = toggle("error map", [swatch(missed), swatch(wrong)], "missed, wrong", !state.off.has("errors"), switched(state.off, "errors"));
  errors.dataset.layer = "errors";
  return [...rows, errors];
}

// One for each name: objects of a label are shown in several colours.
function labelSwitches(scene) {
  const layers = scene.layers || [];
  const names = new Set(layers.flatMap((layer) => layer.labels.map((label) => label.name)));
  return [...names].map((name) => {
    const layer = layers.find((each) => each.labels.some((label) => label.name === name));
    const own = layer.labels.filter((label) => label.name === name);
    const ml = own.reduce((sum, label) => sum + label.ml, 0);
    const objects = layer.objects[name];
    const volume = scene.flat ? "" : `${ml.toPrecision(3)} ml`;
    const amount = objects === undefined ? volume : [`${objects} object${objects === 1 ? "" : "s"}`, volume].filter(Boolean).join(", ");
    const colours = own.length === 1 ? own : own.filter((label) => label.ml > 0).slice(0, MOST_SWATCHES);
    return toggle(name, colours.map((label) => swatch(label.colour)), amount, !state.hidden.has(name), switched(state.hidden, name));
  });
}

function tellScores(scores) {
  const labels = Object.entries(scores);
  $("score-section").hidden = !labels.length;
  if (!labels.length) return;
  const measured = Object.keys(labels[0][1]);
  const metrics = Object.keys(SHOWN_METRICS).filter((name) => measured.includes(name)).slice(0, MOST_METRICS);
  const number = (value) => (typeof value === "number" ? value.toFixed(value < 10 ? 3 : 1) : "–");
  const line = (kind, cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
    return row;
  };
  $("scores").replaceChildren(
    line("th", ["", ...metrics.map((name) => SHOWN_METRICS[name])]),
    ...labels.map(([label, values]) => line("td", [label, ...metrics.map((name) => number(values[name]))])),
  );
}

function tellPlace(place) {
  const { scene } = state;
  if (!scene || !place.values.length) return;
  const [x, y, z] = Array.from(place.mm, (mm) => mm.toFixed(1));
  const parts = [`R ${x}  A ${y}  S ${z} mm`, `${Number(place.values[0].value.toPrecision(5))}`];
  scene.layers.forEach((layer, i) => {
    const label = layer.labels.find((each) => each.index === Math.round(place.values[i + 1]?.value));
    if (label) parts.push(`${layer.name}: ${label.name}`);
  });
  $("place").textContent = parts.join("   ");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const press = (selector) => document.querySelectorAll(selector).forEach((box) => box.click());
  const views = Object.keys(VIEWS);
  const actions = {
    n: () => show(state.number + 1),
    p: () => show(state.number - 1),
    m: () => press('[data-layer="prediction"] input, [data-layer="mask"] input'),
    r: () => press('[data-layer="reference"] input'),
    e: () => press('[data-layer="errors"] input'),
    v: () => look(views[(views.indexOf(view) + 1) % views.length]),
  };
  const action = actions[event.key.toLowerCase()];
  if (action) { action(); event.preventDefault(); }
}

begin().catch((error) => { $("problem").textContent = error.message; });
