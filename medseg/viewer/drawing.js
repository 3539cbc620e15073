"use strict";
// Boxes of voxels in a label map: brushes, parts that are sent, parts that come back. The first axis changes fastest.

const EMPTY = null; // no box
const LEFT = 255; // among the values of a stroke: nothing was drawn here

// The smallest box around two; each is [[i0, i1], [j0, j1], [k0, k1]], half-open.
function around(one, other) {
  if (!one || !other) return one || other;
  return one.map(([low, high], axis) => [Math.min(low, other[axis][0]), Math.max(high, other[axis][1])]);
}

// Sets the voxels within a radius of a place, in a slice or in 3D, and returns the box around what was visited.
// In `drawn`, where it is given, these voxels get the value and 1.
function dab(voxels, { dims, spacing }, place, { radius, plane, value, over, drawn }) {
  const across = plane === null ? -1 : IN_PLANE[plane][2];
  const box = place.map((at, axis) => {
    const middle = Math.floor(at), reach = axis === across ? 0 : Math.floor(radius / spacing[axis] + 0.5);
    return [Math.max(0, middle - reach), Math.min(dims[axis], middle + reach + 1)];
  });
  if (box.some(([low, high]) => low >= high)) return EMPTY;
  const here = place.map(Math.floor);
  for (let k = box[2][0]; k < box[2][1]; k++) {
    for (let j = box[1][0]; j < box[1][1]; j++) {
      for (let i = box[0][0]; i < box[0][1]; i++) {
        const apart = [i, j, k].map((index, axis) => (axis === across ? 0 : (index + 0.5 - place[axis]) * spacing[axis]));
        const inside = Math.hypot(...apart) <= radius || (i === here[0] && j === here[1] && k === here[2]);
        const at = i + dims[0] * (j + dims[1] * k);
        if (!inside || !over(voxels[at])) continue;
        voxels[at] = value;
        if (drawn) drawn[at] = value + 1;
      }
    }
  }
  return box;
}

// Dabs from one place to another, so close to each other that no gap is left.
function line(voxels, grid, from, to, brush) {
  const steps = Math.max(1, ...from.map((at, axis) => Math.ceil(Math.abs(to[axis] - at) * 2)));
  let box = EMPTY;
  for (let step = 0; step <= steps; step++) {
    const place = from.map((at, axis) => at + ((to[axis] - at) * step) / steps);
    box = around(box, dab(voxels, grid, place, brush));
  }
  return box;
}

// The voxels of a box.
function part(voxels, { dims }, [[i0, i1], [j0, j1], [k0, k1]]) {
  const values = new Uint8Array((i1 - i0) * (j1 - j0) * (k1 - k0));
  let at = 0;
  for (let k = k0; k < k1; k++) {
    for (let j = j0; j < j1; j++) {
      const start = dims[0] * (j + dims[1] * k);
      values.set(voxels.subarray(start + i0, start + i1), at);
      at += i1 - i0;
    }
  }
  return values;
}

// The values of a stroke in a box.
const strokePart = (drawn, grid, box) => part(drawn, grid, box).map((each) => (each ? each - 1 : LEFT));

// Puts the values of a stroke into a box.
function pasteStroke(voxels, grid, box, values) {
  const below = part(voxels, grid, box);
  paste(voxels, grid, box, values.map((each, i) => (each === LEFT ? below[i] : each)));
}

// Puts values into a box.
function paste(voxels, { dims }, [[i0, i1], [j0, j1], [k0, k1]], values) {
  let at = 0;
  for (let k = k0; k < k1; k++) {
    for (let j = j0; j < j1; j++) {
      voxels.set(values.subarray(at, at + i1 - i0), i0 + dims[0] * (j + dims[1] * k));
      at += i1 - i0;
    }
  }
}

// Whether a place (column, row) lies inside of a closed outline: even-odd rule.
function isInside(outline, column, row) {
  let inside = false;
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i++) {
    const [x, y] = outline[i], [u, v] = outline[j];
    if (y > row !== v > row && column < ((u - x) * (row - y)) / (v - y) + x) inside = !inside;
  }
  return inside;
}

// The voxels of a slice inside of an outline of places, as a box and its values of 0 and 1.
function filled(places, { dims }, plane) {
  const [column, row, across] = IN_PLANE[plane];
  const ends = (axis) => {
    const all = places.map((place) => place[axis]);
    return [Math.max(0, Math.floor(Math.min(...all))), Math.min(dims[axis], Math.floor(Math.max(...all)) + 1)];
  };
  const slice = Math.floor(places[0][across]);
  const box = [0, 1, 2].map((axis) => (axis === across ? [slice, slice + 1] : ends(axis)));
  const size = box.map(([low, high]) => high - low);
  const values = new Uint8Array(size[0] * size[1] * size[2]);
  const outline = places.map((place) => [place[column], place[row]]);
  for (let v = 0; v < size[row]; v++) {
    for (let u = 0; u < size[column]; u++) {
      const offset = [0, 0, 0];
      offset[column] = u;
      offset[row] = v;
      const at = offset[0] + size[0] * (offset[1] + size[1] * offset[2]);
      values[at] = isInside(outline, box[column][0] + u + 0.5, box[row][0] + v + 0.5) ? 1 : 0;
    }
  }
  return [box, values];
}

// Values of 0 and 1 as bits in base 64, eight in a byte, the first one lowest.
function bits(values) {
  const bytes = new Uint8Array(Math.ceil(values.length / 8));
  values.forEach((value, i) => { if (value) bytes[i >> 3] |= 1 << (i & 7); });
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
