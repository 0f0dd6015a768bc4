// The review: buttons and inputs, and the first image.

import {choose, showClasses} from "./classes.js";
import {begin} from "./images.js";
import {KEYS, listenToKeys, showKeys, toggleQueue} from "./keys.js";
import {LAYERS, showLayers} from "./layers.js";
import {$, element, enqueue, review, tagBox, view} from "./page.js";
import {listenToPointer, use} from "./pointer.js";
import {loadQueue} from "./queue.js";
import {leaveTags, saveTags} from "./steps.js";
import {TOOLS} from "./tools.js";

function makeButtons() {
  review.tools = {};
  for (const [key, [name, does, Kind]] of Object.entries(TOOLS)) {
    review.tools[key] = new Kind(review);
    const button = element("button", name, {title: `${does} (${key})`});
    button.dataset.key = key;
    $("tools").append(button);
  }
  for (const [key, [layer, name]] of Object.entries(LAYERS)) {
    const button = element("button", name, {title: `${name} (${key})`});
    Object.assign(button.dataset, {key, layer});
    $("layers").append(button);
  }
  for (const button of document.querySelectorAll("[data-key]")) {
    button.addEventListener("click", (event) => {
      // After a click the keys go to the photograph; who goes from button to button stays where he is.
      if (event.detail) $("view").focus();
      KEYS[button.dataset.key][1](event);
    });
  }
}

function listenToInputs() {
  const follow = (id, does) => $(id).addEventListener("input", () => {
    $(id).parentElement.querySelector("output").textContent = $(id).value;
    does(Number($(id).value));
  });
  follow("size", (value) => { review.radius = value; view.draw(); });
  follow("opacity", (value) => { view.opacity = value / 100; view.draw(); });
  $("new-object").addEventListener("change", () => { review.asNewObject = $("new-object").checked; });
  $("cam").addEventListener("change", () => { review.shown.add("cam"); enqueue(showLayers); });
  $("find-class").addEventListener("input", showClasses);
  $("find-class").addEventListener("keydown", (event) => {
    if (!["Enter", "Escape"].includes(event.key)) return;
    if (event.key === "Enter") choose(review.choices.find((each) => each.code === 3) ?? review.choices[0]);
    $("find-class").value = "";
    showClasses();
    $("view").focus();
  });
  $("tags").addEventListener("keydown", (event) => {
    if (!["Enter", "Escape"].includes(event.key) || !review.image) return;
    if (event.key === "Enter") saveTags();
    else tagBox.show(review.tags, review.image);
    $("view").focus();
  });
  $("tags").addEventListener("blur", leaveTags);
  $("more").addEventListener("click", () => enqueue(loadQueue));
}

makeButtons();
showKeys();
listenToInputs();
listenToKeys();
listenToPointer();
if (innerWidth > 1100) toggleQueue();
view.sketch = (context, scale) => review.tool.sketch(context, scale);
use("b");
enqueue(begin);
