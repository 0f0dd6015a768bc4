// Keys, and their list in the help.

import {choose} from "./classes.js";
import {judge, open} from "./images.js";
import {nextCam, toggle} from "./layers.js";
import {$, element, review, view} from "./page.js";
import {act, cancel, movePointer, press, use} from "./pointer.js";
import {future, past, travel} from "./steps.js";
import {TOOLS} from "./tools.js";

const HASTY_MS = 300;
let judgedAt = -Infinity;

function slide(id, change) {
  const input = $(id);
  input.value = Number(input.value) + change;
  input.dispatchEvent(new Event("input"));
}

// A word that is typed with the focus on the photograph, or a key that is held, must not judge image after image.
function isHasty(event) {
  const since = event.timeStamp - judgedAt;
  judgedAt = event.timeStamp;
  return event.repeat || since < HASTY_MS;
}

function showHelp() {
  $("help").showModal();
  // The focus is on the button at its end.
  $("help").scrollTop = 0;
}

export function toggleQueue() {
  const isShown = document.body.classList.toggle("with-queue");
  $("toggle-queue").setAttribute("aria-expanded", isShown);
}

// Key -> what it is called in the help, and what it does.
export const KEYS = {
  a: ["accept, and the next image", () => judge("accepted")],
  r: ["reject the image, and the next", () => judge("rejected")],
  j: ["next image", () => open(review.place + 1)],
  k: ["previous image", () => open(review.place - 1)],
  z: ["undo", () => travel(past, future)],
  y: ["redo", () => travel(future, past)],
  ...Object.fromEntries(Object.entries(TOOLS).map(([key, [name, does]]) => [key, [`${name.toLowerCase()}: ${does}`, () => use(key)]])),
  Enter: ["close the polygon", () => act("finish")],
  Escape: ["leave what was begun; new scribbles", cancel],
  " ": ["pen down, pen up", press],
  ArrowLeft: ["move the pointer; with Shift faster, with Alt the photograph", (event) => movePointer(event, -1, 0)],
  ArrowRight: ["", (event) => movePointer(event, 1, 0)],
  ArrowUp: ["", (event) => movePointer(event, 0, -1)],
  ArrowDown: ["", (event) => movePointer(event, 0, 1)],
  ",": ["smaller brush", () => slide("size", -2)],
  ".": ["larger brush", () => slide("size", 2)],
  n: ["as a new object", () => $("new-object").click()],
  0: ["background", () => choose(review.choices.find((each) => each.code === 1))],
  u: ["unsure", () => choose(review.choices.find((each) => each.code === 2))],
  ...Object.fromEntries(Array.from({length: 9}, (_, i) => [i + 1, [i ? "" : "a class, 1 to 9", () => choose(review.choices.filter((each) => each.code === 3)[i])]])),
  c: ["find a class", () => $("find-class").focus()],
  t: ["change tags", () => $("tags").focus()],
  q: ["labels", () => toggle("labels")],
  w: ["objects", () => toggle("objects")],
  o: ["boundary", () => review.boundary && toggle("boundary")],
  l: ["CAM, class by class", () => review.cams.length && nextCam()],
  d: ["labels from before, beside", () => toggle("before")],
  "[": ["less opacity", () => slide("opacity", -10)],
  "]": ["more opacity", () => slide("opacity", 10)],
  "+": ["nearer", () => view.zoom(1.25, ...pointerPlace())],
  "-": ["farther", () => view.zoom(0.8, ...pointerPlace())],
  v: ["whole photograph", () => view.fit()],
  g: ["queue", toggleQueue],
  "?": ["these keys", showHelp],
};

function pointerPlace() {
  return view.pointer ? view.pointer.map((value, axis) => (value + 0.5) * view.scale + [view.left, view.top][axis]) : [];
}

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const isText = event.target.matches("input[type=text], input[type=search], select");
    if (isText || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && !"zy".includes(event.key.toLowerCase())) return;
    // A button that has the focus is pressed by Space and Enter.
    if (event.target.matches("button, input") && [" ", "Enter"].includes(event.key)) return;
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const name = event.ctrlKey && event.shiftKey && event.key === "Z" ? "y" : event.key;
    const found = KEYS[name] ?? KEYS[name.toLowerCase()];
    if (!found) return;
    event.preventDefault();
    if ([KEYS.a, KEYS.r].includes(found) && isHasty(event)) return;
    found[1](event);
  });
}

export function showKeys() {
  const names = {" ": "Space", ArrowLeft: "arrows"};
  $("help").querySelector("dl").replaceChildren(...Object.entries(KEYS).filter(([, [text]]) => text).map(([key, [text]]) => {
    const row = element("div");
    const term = element("dt");
    term.append(element("kbd", names[key] ?? (key === "1" ? "1 … 9" : key)));
    row.append(term, element("dd", text));
    return row;
  }));
}
