// The pointer, of hand and keyboard.

import {$, review, say, view} from "./page.js";
import {onThisImage, save} from "./steps.js";
import {TOOLS} from "./tools.js";

let isPenDown = false;

export function use(key) {
  if ($("tools").querySelector(`[data-key=${key}]`).disabled) return say("The run that made these labels has kept no boundary map.");
  cancel();
  review.tool = review.tools[key];
  for (const button of $("tools").children) button.setAttribute("aria-pressed", button.dataset.key === key);
  return say(`${TOOLS[key][0]}: ${TOOLS[key][1]}`);
}

// The tool sees the pixels as they are when all steps before are saved.
export function act(method, point) {
  if (!review.image) return;
  if (method !== "up" && method !== "finish") {
    review.tool[method](point);
    view.draw();
    return;
  }
  const work = review.tool[method]?.(point);
  view.draw();
  if (work) onThisImage(() => {
    const message = work();
    return message && save(message);
  });
}

export function listenToPointer() {
  const canvas = $("view");
  const fingers = new Map();
  const place = (event) => [event.offsetX, event.offsetY];
  let isDrawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    view.pointer = null;
    isDrawing = fingers.size === 1 && event.button === 0;
    if (isDrawing) act("down", view.at(...place(event)));
    else review.tool.cancel();
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const now = place(event);
    view.hover(event.pointerType === "touch" ? null : now);
    if (!before) return;
    if (isDrawing) {
      for (const each of event.getCoalescedEvents?.() ?? []) review.tool.move(view.at(...place(each)));
      act("move", view.at(...now));
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) view.zoom(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])), ...other);
      else view.pan(now[0] - before[0], now[1] - before[1]);
    }
    fingers.set(event.pointerId, now);
  });
  const end = (event) => {
    if (fingers.delete(event.pointerId) && isDrawing && event.type === "pointerup") act("up", view.at(...place(event)));
    isDrawing = false;
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  canvas.addEventListener("pointerleave", () => view.hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom(Math.exp(-event.deltaY / 400), ...place(event));
  }, {passive: false});
}

export function movePointer(event, x, y) {
  if (!review.image) return null;
  const length = event.shiftKey ? 40 : 5;
  if (event.altKey) return view.pan(-x * 40, -y * 40);
  const point = view.point(x * length, y * length);
  if (isPenDown) act("move", point);
  return null;
}

export function press() {
  if (!review.image) return;
  const point = view.point(0, 0);
  isPenDown = !isPenDown;
  act(isPenDown ? "down" : "up", point);
  // A corner or a click needs no second press.
  if (isPenDown && ["p", "f", "i", "m"].includes($("tools").querySelector("[aria-pressed=true]").dataset.key)) press();
}

// Leaves what was begun; scribbles after it count without those before.
export function cancel() {
  isPenDown = false;
  review.scribbles = new Map();
  review.tool?.cancel();
  view.draw();
}
