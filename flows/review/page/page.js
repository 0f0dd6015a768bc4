// What all parts of the page share: the image that is shown, what it says, and one step after another.

import {TagBox} from "./tags.js";
import {View} from "./view.js";

export const $ = (id) => document.getElementById(id);
export const view = new View($("view"), $("beside"));
export const tagBox = new TagBox($("tags"));

export const review = {
  view,
  queue: [],
  count: 0,
  shown: new Set(["labels"]),
  tool: null,
  chosen: {code: 1, name: "background", color: "#000000"},
  radius: 12,
  asNewObject: false,
  // Number of steps -> the scribbles that count after them: `strokes`, and the `step` that they were begun on.
  scribbles: new Map(),
  // Why there is no queue.
  fault: null,
  say,
};

let working = Promise.resolve();

export function say(text, isFault = false) {
  $("status").textContent = review.fault ?? text;
  $("status").classList.toggle("fault", isFault || review.fault !== null);
  return null;
}

export function element(tag, text = "", values = {}) {
  const made = Object.assign(document.createElement(tag), values);
  made.textContent = text;
  return made;
}

// One thing after another: a step is made on what the one before has left.
export function enqueue(work) {
  working = working.then(work).catch((error) => say(error.message, true));
  return working;
}
