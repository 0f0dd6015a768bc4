// Layers over the photograph: labels, objects, boundary, CAM of a class, and the labels from before.

import {address, get} from "./api.js";
import {$, element, enqueue, review, view} from "./page.js";
import {decode} from "./shapes.js";
import {paintLabels, paintObjects} from "./view.js";

export const LAYERS = {q: ["labels", "Labels"], w: ["objects", "Objects"], o: ["boundary", "Boundary"], l: ["cam", "CAM"], d: ["before", "Before"]};

export function showCams() {
  if ([...$("cam").options].map((option) => option.value).join("\n") === review.cams.join("\n")) return;
  $("cam").replaceChildren(...review.cams.map((name) => element("option", name, {value: name})));
}

async function picture(path, values) {
  const key = address(path, values);
  if (!review.maps[key]) {
    const image = new Image();
    image.src = key;
    await image.decode();
    review.maps[key] = image;
  }
  return review.maps[key];
}

export async function showLayers() {
  if (!review.image) return;
  const {shown, image, size} = review;
  const has = {labels: true, objects: true, before: true, boundary: review.boundary, cam: review.cams.length > 0};
  for (const [name] of Object.values(LAYERS)) {
    const button = $("layers").querySelector(`[data-layer=${name}]`);
    button.disabled = !has[name];
    button.setAttribute("aria-pressed", shown.has(name));
  }
  $("tools").querySelector("[data-key=s]").disabled = !review.boundary;
  $("cam-row").hidden = !has.cam;
  const layers = [];
  if (shown.has("cam") && has.cam) layers.push(await picture("cam", {image, class: $("cam").value}));
  if (shown.has("labels")) layers.push(paintLabels(review.labels, size, review.classes));
  if (shown.has("objects")) layers.push(paintObjects(review.objects, size));
  if (shown.has("boundary") && has.boundary) layers.push(await picture("boundary", {image}));
  $("before").hidden = !shown.has("before");
  if (shown.has("before")) await showBefore();
  view.layers = layers;
  view.show(review.photo, size);
}

async function showBefore() {
  const {image, size} = review;
  review.maps.before ??= await get("before", {image});
  $("before").querySelector("figcaption").textContent = review.maps.before.what;
  const isObjects = review.shown.has("objects") && !review.shown.has("labels");
  const map = decode(review.maps.before[isObjects ? "objects" : "labels"], size.width * size.height);
  view.before = isObjects ? paintObjects(map, size) : paintLabels(map, size, review.classes);
}

export function toggle(name) {
  if (!review.shown.delete(name)) review.shown.add(name);
  // One would hide the other.
  const other = {labels: "objects", objects: "labels"}[name];
  if (other) review.shown.delete(other);
  return enqueue(showLayers);
}

export function nextCam() {
  const select = $("cam");
  if (review.shown.has("cam") && select.selectedIndex + 1 < select.options.length) {
    select.selectedIndex++;
    return enqueue(showLayers);
  }
  select.selectedIndex = 0;
  return toggle("cam");
}
