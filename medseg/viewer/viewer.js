"use strict";
// The page of medseg view. Volumes and surfaces come from the server beside it; NiiVue draws them.

const $ = (id) => document.getElementById(id);
const WHITE = [235, 240, 244];
const SHOWN_METRICS = { dice: "Dice", surface_dice: "NSD", hd95_mm: "HD95", lesion_f1: "lesion F1", centreline_dice: "clDice" };
const MOST_METRICS = 3;
const THIN = 1; // of the part of a surface that a slice shows as its outline, in voxels

const nv = new niivue.Niivue({
  backColor: [0, 0, 0, 1], crosshairColor: [0.55, 0.75, 0.95, 0.8], crosshairGap: 6, fontColor: [0.85, 0.88, 0.9, 1],
  show3Dcrosshair: false, isRadiologicalConvention: true, sagittalNoseLeft: true, isCornerOrientationText: false,
  multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarEqualSize: false, isNearestInterpolation: false,
  viewModeHotKey: "", clipPlaneHotKey: "", loadingText: "", logLevel: "error", tileMargin: -1, multiplanarPadPixels: 4,
});

const state = { cases: [], number: 0, scene: null, hidden: new Set(), off: new Set(["errors"]), view: "four", turn: 0 };

const VIEWS = {
  four: ["three planes and 3D", () => nv.setSliceType(nv.sliceTypeMultiplanar)],
  axial: ["axial", () => nv.setSliceType(nv.sliceTypeAxial)],
  coronal: ["coronal", () => nv.setSliceType(nv.sliceTypeCoronal)],
  sagittal: ["sagittal", () => nv.setSliceType(nv.sliceTypeSagittal)],
  render: ["3D", () => nv.setSliceType(nv.sliceTypeRender)],
};

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${answer.status} for ${address}; is medseg view still running?`);
  return answer.json();
}

async function begin() {
  await nv.attachToCanvas($("canvas"));
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
  $("views").replaceChildren(...Object.entries(VIEWS).map(([name, [text]]) => {
    const button = document.createElement("button");
    button.textContent = text;
    button.dataset.view = name;
    button.onclick = () => look(name);
    return button;
  }));
  document.addEventListener("keydown", onKey);
  const steps = cases.length > 1 ? [["N", ranked ? "next worst case" : "next case"], ["P", "case before"]] : [];
  tellKeys([...steps, ["M", "masks"], ["R", "reference"], ["E", "error map"], ["V", "other view"],
    ["wheel", "scroll slices"], ["left", "move crosshair"], ["right", "grey window"]]);
  await show(0);
}

async function show(number) {
  if (number < 0 || number >= state.cases.length) return;
  const turn = ++state.turn;
  state.number = number;
  $("cases").value = number;
  $("busy").hidden = false;
  try {
    const scene = await fetched(`case/${number}/scene.json`);
    if (turn !== state.turn) return;
    tell(scene, state.cases[number]);
    if (!scene.error) await load(scene, number, turn);
  } catch (error) {
    if (turn === state.turn) $("problem").textContent = error.message;
  } finally {
    if (turn === state.turn) $("busy").hidden = true;
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
  if (turn !== state.turn) return;
  if (scene.errors) {
    const { missed, wrong } = scene.errors;
    colour(nv.volumes.at(-1), [{ index: 1, name: "missed", colour: missed }, { index: 2, name: "wrong", colour: wrong }]);
  }
  nv.scene.crosshairPos = nv.mm2frac(scene.start);
  nv.setClipPlane([-10, 0, 0]); // 3D shows the surfaces only, not the image around them
  if (scene.flat) look("axial"); else VIEWS[state.view][1]();
  nv.createOnLocationChange();
  paint();
  if (scene.flat) return;
  const edge = Math.min(...nv.volumes[0].pixDims.slice(1, 4));
  nv.setMeshThicknessOn2D(THIN * edge);
  const surfaces = scene.layers.flatMap((layer, i) => layer.labels.filter((label) => label.ml > 0).map((label) => ({
    url: `${at}/layer${i}-${label.index}.mz3`, name: `layer${i}-${label.index}.mz3`,
    rgba255: [...(layer.role === "reference" ? WHITE : label.colour), 255],
  })));
  for (const surface of surfaces) {
    await nv.addMeshesFromUrl([surface]);
    if (turn !== state.turn) return;
    paint();
  }
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

function swatch(rgb, kind = "") {
  const mark = Object.assign(document.createElement("span"), { className: `swatch ${kind}` });
  mark.style.background = `rgb(${rgb.join()})`;
  return mark;
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

function labelSwitches(scene) {
  const labels = new Map();
  for (const layer of scene.layers || []) for (const label of layer.labels) if (!labels.has(label.name)) labels.set(label.name, label);
  return [...labels.values()].map((label) => {
    const amount = scene.flat ? "" : `${label.ml.toPrecision(3)} ml`;
    return toggle(label.name, [swatch(label.colour)], amount, !state.hidden.has(label.name), switched(state.hidden, label.name));
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

function tellKeys(keys) {
  $("keys").replaceChildren(...keys.flatMap(([key, what]) => [
    Object.assign(document.createElement("kbd"), { textContent: key }), Object.assign(document.createElement("span"), { textContent: what }),
  ]));
}

function tellPlace(place) {
  const { scene } = state;
  if (!scene || !place.values.length) return;
  const [x, y, z] = place.mm.map((mm) => mm.toFixed(1));
  const parts = [`R ${x}  A ${y}  S ${z} mm`, `${Number(place.values[0].value.toPrecision(5))}`];
  scene.layers.forEach((layer, i) => {
    const label = layer.labels.find((each) => each.index === Math.round(place.values[i + 1]?.value));
    if (label) parts.push(`${layer.name}: ${label.name}`);
  });
  $("place").textContent = parts.join("   ");
}

function look(name) {
  state.view = name;
  VIEWS[name][1]();
  for (const button of $("views").children) button.setAttribute("aria-pressed", button.dataset.view === name);
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
    v: () => look(views[(views.indexOf(state.view) + 1) % views.length]),
  };
  const action = actions[event.key.toLowerCase()];
  if (action) { action(); event.preventDefault(); }
}

begin().then(() => look(state.view)).catch((error) => { $("problem").textContent = error.message; });
