"use strict";
// What the pages of medseg share: NiiVue's slices, where their voxels lie on the canvas, and small parts of a page.

const $ = (id) => document.getElementById(id);
const IN_PLANE = [[0, 1, 2], [0, 2, 1], [1, 2, 0]]; // array axes of columns, rows and slices: axial, coronal, sagittal

const nv = new niivue.Niivue({
  backColor: [0, 0, 0, 1], crosshairColor: [0.55, 0.75, 0.95, 0.8], crosshairWidth: 0.25, crosshairWidthUnit: "percent", crosshairGap: 0, fontColor: [0.85, 0.88, 0.9, 1],
  show3Dcrosshair: false, isRadiologicalConvention: true, sagittalNoseLeft: true, isCornerOrientationText: false,
  multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarEqualSize: false, isNearestInterpolation: false,
  viewModeHotKey: "", clipPlaneHotKey: "", loadingText: "", logLevel: "error", tileMargin: -1, multiplanarPadPixels: 4, isClipAllVolumes: true,
});

let view = "four"; // a key of VIEWS

const VIEWS = {
  four: ["three planes and 3D", () => nv.setSliceType(nv.sliceTypeMultiplanar)],
  axial: ["axial", () => nv.setSliceType(nv.sliceTypeAxial)],
  coronal: ["coronal", () => nv.setSliceType(nv.sliceTypeCoronal)],
  sagittal: ["sagittal", () => nv.setSliceType(nv.sliceTypeSagittal)],
  render: ["3D", () => nv.setSliceType(nv.sliceTypeRender)],
};

// Makes a button for each view.
function viewButtons() {
  $("views").replaceChildren(...Object.entries(VIEWS).map(([name, [text]]) => {
    const button = document.createElement("button");
    button.textContent = text;
    button.dataset.view = name;
    button.onclick = () => look(name);
    return button;
  }));
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${answer.status} for ${address}; is medseg still running?`);
  return answer.json();
}

function stroke(context, path, style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.lineCap = "round";
  context.stroke(path);
}

// Where the voxels of the slice at the crosshair lie on the canvas.
function placing(plane, dims) {
  const [column, row, across] = IN_PLANE[plane];
  const at = (u, v) => {
    const frac = [...nv.scene.crosshairPos];
    frac[column] = u;
    frac[row] = v;
    return nv.frac2canvasPosWithTile(frac, plane)?.pos;
  };
  const corners = [at(0, 0), at(1, 0), at(0, 1)];
  if (corners.some((corner) => !corner)) return null;
  const [origin, right, up] = corners;
  const slice = Math.min(dims[across] - 1, Math.max(0, Math.floor(nv.scene.crosshairPos[across] * dims[across])));
  const steps = [1, dims[0], dims[0] * dims[1]];
  return {
    columns: dims[column], rows: dims[row], first: slice * steps[across], step: steps[column], stride: steps[row],
    x: (u, v) => origin[0] + (u / dims[column]) * (right[0] - origin[0]) + (v / dims[row]) * (up[0] - origin[0]),
    y: (u, v) => origin[1] + (u / dims[column]) * (right[1] - origin[1]) + (v / dims[row]) * (up[1] - origin[1]),
  };
}

function swatch(rgb, kind = "") {
  const mark = Object.assign(document.createElement("span"), { className: `swatch ${kind}` });
  mark.style.background = `rgb(${rgb.join()})`;
  return mark;
}

function tellKeys(keys) {
  $("keys").replaceChildren(...keys.flatMap(([key, what]) => [
    Object.assign(document.createElement("kbd"), { textContent: key }), Object.assign(document.createElement("span"), { textContent: what }),
  ]));
}

function look(name) {
  view = name;
  VIEWS[name][1]();
  for (const button of $("views").children) button.setAttribute("aria-pressed", button.dataset.view === name);
}

