// The review: which image is shown, what the person does, and what the server has saved.

import {address, get, post} from "./api.js";
import {decode} from "./spans.js";
import {TagBox, namesIn} from "./tags.js";
import {TOOLS} from "./tools.js";
import {View, paintLabels, paintObjects} from "./view.js";

const $ = (id) => document.getElementById(id);
const VOID = 255, PAGE = 100, HASTY_MS = 300;
const LAYERS = {q: ["labels", "Labels"], w: ["objects", "Objects"], o: ["boundary", "Boundary"], l: ["cam", "CAM"], d: ["before", "Before"]};

const view = new View($("view"), $("beside"));
const tagBox = new TagBox($("tags"));
const review = {
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
let isPenDown = false;
let judgedAt = -Infinity;

function say(text, isFault = false) {
  $("status").textContent = review.fault ?? text;
  $("status").classList.toggle("fault", isFault || review.fault !== null);
  return null;
}

function element(tag, text = "", values = {}) {
  const made = Object.assign(document.createElement(tag), values);
  made.textContent = text;
  return made;
}

// One thing after another: a step is made on what the one before has left.
function enqueue(work) {
  working = working.then(work).catch((error) => say(error.message, true));
  return working;
}

// ---- the queue

async function loadQueue() {
  const found = await get("queue", {start: review.queue.length, count: PAGE});
  [review.name, review.author, review.count, review.done, review.proposed] = [found.name, found.author, found.count, found.done, found.proposed];
  for (const image of found.images) {
    review.queue.push(image);
    $("queue").querySelector("ol").append(queueItem(image));
  }
  $("more").hidden = review.queue.length >= review.count;
  showProgress();
}

function queueItem(image) {
  const item = element("li");
  const button = element("button");
  const text = element("div");
  const quality = image.quality === null ? "" : `${Math.round(100 * image.quality)} %: `;
  text.append(element("b", image.image), element("span", quality + image.why));
  button.append(element("img", "", {loading: "lazy", alt: "", src: address("photo", {image: image.image, side: 160})}), text);
  button.addEventListener("click", () => open(review.queue.indexOf(image)));
  item.append(button);
  image.item = item;
  markItem(image);
  return item;
}

function markItem(image) {
  image.item.className = image.verdict ?? (image.steps ? "edited" : "");
}

function showProgress() {
  const done = review.proposed ? `${review.done} of ${review.count} corrected` : `${review.place + 1 || 1} of ${review.count}, ${review.done} looked at`;
  $("progress").textContent = `${done} · ${review.name} · ${review.author}`;
}

// Opens the first image that has no step yet.
async function begin() {
  let place = -1;
  try {
    do {
      await loadQueue();
      place = review.queue.findIndex((image) => !image.steps);
    } while (place < 0 && review.done < review.count && review.queue.length < review.count);
  } catch (error) {
    // Without a queue there is nothing else to say.
    if (!review.queue.length) review.fault = error.message;
    throw error;
  }
  return show(Math.max(0, place));
}

function open(place) {
  return enqueue(() => show(place));
}

async function show(place) {
  if (place < 0 || place >= review.count) return say("There are no more images.");
  while (place >= review.queue.length) await loadQueue();
  const image = review.queue[place];
  const lost = tagBox.isTyped ? `Not saved: the tags that you typed on ${$("tags").dataset.image}.` : "";
  close(place, image);
  const state = await get("state", {image: image.image});
  const photo = new Image();
  photo.src = address("photo", {image: image.image});
  await photo.decode();
  Object.assign(review, {photo, maps: {}});
  const others = state.other_bytes ? `${state.other_bytes} corrections were made on other bytes of this image, and are not applied.` : "";
  const newer = state.latest === null ? "" : `Version ${state.latest} is the latest by now. Start the review again to see its labels; what you correct here counts.`;
  say([lost, others, newer].filter(Boolean).join(" "), lost !== "");
  await takeAnew(state);
  $("view").focus({preventScroll: true});
  return null;
}

// Until the next image is there, nothing is shown and nothing can be changed.
function close(place, image) {
  Object.assign(review, {place, image: null});
  cancel();
  tagBox.show([], null);
  $("tags").blur();
  view.show(null, null);
  $("image-name").textContent = image.image;
  $("why").textContent = "";
  for (const {item} of review.queue) item.querySelector("button").setAttribute("aria-pressed", item === image.item);
  image.item.scrollIntoView({block: "nearest"});
  if (innerWidth <= 800) document.body.classList.remove("with-queue");
}

// ---- what the server has

async function take(state) {
  Object.assign(review, state, {size: {width: state.width, height: state.height}});
  review.labels = decode(state.labels, state.width * state.height);
  review.objects = decode(state.objects, state.width * state.height);
  const item = review.queue[review.place];
  review.done += state.steps && !item.steps ? 1 : 0;
  Object.assign(item, {steps: state.steps, verdict: state.verdict});
  markItem(item);
  const verdict = state.verdict ? `, ${state.verdict}` : "";
  $("image-name").textContent = state.image + verdict;
  $("why").textContent = state.quality === null ? state.why : `Quality ${Math.round(100 * state.quality)} %: ${state.why}`;
  tagBox.update(state.tags, state.image);
  showProgress();
  showClasses();
  showCams();
  await showLayers();
  Object.assign(document.body.dataset, {image: state.image, records: state.records, steps: state.steps});
}

// All steps of a newly read state can be undone, whoever made them.
async function takeAnew(state) {
  Object.assign(review, {past: [...Array(state.steps).keys()], future: []});
  await take(state);
}

async function send(path, message) {
  const started = performance.now();
  await take(await post(path, {image: review.image, after: review.records, ...message}));
  say(`Saved in ${Math.round(performance.now() - started)} ms.`);
}

// Returns the state of the image where a step was refused because somebody else was first.
function newerState(error) {
  if (error.status !== 409) throw error;
  return error.state;
}

function whoWasFirst({last}) {
  const who = last?.author === review.author ? "You, in another window," : last?.author ?? "Somebody";
  return `${who} corrected this image${last ? ` at ${new Date(last.created).toLocaleTimeString()}` : ""}`;
}

function askConflict(state) {
  $("conflict").querySelector("p").textContent = `${whoWasFirst(state)} while you looked at an older state. Your step is not saved yet.`;
  $("conflict").returnValue = "";
  $("conflict").showModal();
  return new Promise((resolve) => $("conflict").addEventListener("close", () => resolve($("conflict").returnValue === "mine"), {once: true}));
}

// What a person does is meant for the image that he sees, which another may have replaced before its turn comes.
function onThisImage(work) {
  const {image} = review;
  if (!image) return null;
  return enqueue(() => (review.image === image ? work() : say(`Not saved: ${image} is no longer open.`, true)));
}

// Saves a step; where somebody else was first, asks whether it goes over what he did.
// A number names what the image was like after so many steps; nothing that was saved is ever deleted.
async function save({walk, note, saved, ...content}) {
  const before = review.steps;
  try {
    await send(walk ? "scribble" : "correct", content);
  } catch (error) {
    const state = newerState(error);
    const mine = await askConflict(state);
    await takeAnew(state);
    if (mine) return save({walk, note, saved, ...content, ...(walk ? {step: state.steps} : {})});
    say("Not saved: the newer labels are shown.", true);
    return false;
  }
  review.past.push(before);
  review.future = [];
  review.scribbles.set(review.steps, review.scribbles.get(before));
  saved?.(review.steps, content.step);
  if (note) say(`${$("status").textContent} ${note}`);
  view.draw();
  return true;
}

function travel(from, to) {
  const what = from === past ? "undo" : "redo";
  return onThisImage(async () => {
    if (!from().length) return say(`There is nothing to ${what}.`);
    const [here, target] = [review.steps, from().at(-1)];
    review.tool.cancel();
    try {
      await send("restore", {step: target});
    } catch (error) {
      const state = newerState(error);
      await takeAnew(state);
      // It would take back the step that this person has not seen.
      return say(`${whoWasFirst(state)} meanwhile. The ${what} was not done.`, true);
    }
    from().pop();
    to().push(here);
    review.scribbles.set(review.steps, review.scribbles.get(target));
    return view.draw();
  });
}
const past = () => review.past;
const future = () => review.future;

function judge(verdict) {
  return onThisImage(async () => await save({verdict}) && show(review.place + 1));
}

// ---- classes and tags

function showClasses() {
  const wanted = $("find-class").value.trim().toLowerCase();
  const known = [{name: "background", code: 1, color: "#000000"}, {name: "unsure", code: 2, color: "#cdcdcd"}];
  review.classes.forEach(({name, color}, value) => {
    if (value && value !== VOID) known.push({name, color, code: 3, tagged: review.tags.includes(name)});
  });
  // Those of the image come first.
  known.sort((a, b) => (a.code === 3 && b.code === 3 ? (b.tagged ?? 0) - (a.tagged ?? 0) : a.code - b.code));
  review.choices = known.filter((each) => each.name.toLowerCase().includes(wanted));
  $("classes").replaceChildren(...review.choices.map((each, place) => {
    const button = element("button", "", {className: each.tagged ? "tagged" : "", title: each.name});
    const swatch = element("i");
    swatch.style.background = each.color;
    button.append(swatch, element("b", each.name), element("kbd", ["0", "u", ...Array.from({length: 9}, (_, i) => `${i + 1}`)][wanted ? -1 : place] ?? ""));
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", each.name === review.chosen.name && each.code === review.chosen.code);
    button.addEventListener("click", () => choose(each));
    return button;
  }));
  const isKnown = known.some((each) => each.name === review.chosen.name && each.code === review.chosen.code);
  if (!isKnown || review.place !== review.chosenAt) {
    review.chosenAt = review.place;
    choose(known.find((each) => each.tagged) ?? known[0]);
  }
}

function choose(one) {
  if (!one) return;
  const changed = one.name !== review.chosen.name || one.code !== review.chosen.code;
  review.chosen = one;
  if (changed) showClasses();
}

function saveTags() {
  if (!tagBox.isTyped) return null;
  const typed = tagBox.send();
  return onThisImage(() => putTags(typed));
}

async function putTags(typed) {
  const tags = namesIn(typed, new Set([...review.classes.map(({name}) => name), ...review.tags]));
  if (tags.join(";") === [...review.tags].sort().join(";")) return tagBox.update(review.tags, review.image);
  try {
    return await save({tags});
  } catch (error) {
    tagBox.refuse(typed, review.tags, review.image);
    return say(`Tags not saved: ${error.message}`, true);
  }
}

function leaveTags() {
  // A box that another window or a dialog covers will be gone on with.
  if (document.activeElement === $("tags") || document.querySelector("dialog[open]")) return;
  if (!tagBox.isRefused) saveTags();
}

// ---- layers

function showCams() {
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

async function showLayers() {
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

function toggle(name) {
  if (!review.shown.delete(name)) review.shown.add(name);
  // One would hide the other.
  const other = {labels: "objects", objects: "labels"}[name];
  if (other) review.shown.delete(other);
  return enqueue(showLayers);
}

function nextCam() {
  const select = $("cam");
  if (review.shown.has("cam") && select.selectedIndex + 1 < select.options.length) {
    select.selectedIndex++;
    return enqueue(showLayers);
  }
  select.selectedIndex = 0;
  return toggle("cam");
}

// ---- the pointer, of hand and keyboard

function use(key) {
  if ($("tools").querySelector(`[data-key=${key}]`).disabled) return say("The run that made these labels has kept no boundary map.");
  cancel();
  review.tool = review.tools[key];
  for (const button of $("tools").children) button.setAttribute("aria-pressed", button.dataset.key === key);
  return say(`${TOOLS[key][0]}: ${TOOLS[key][1]}`);
}

// The tool sees the pixels as they are when all steps before are saved.
function act(method, point) {
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

function listenToPointer() {
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

function movePointer(event, x, y) {
  if (!review.image) return null;
  const length = event.shiftKey ? 40 : 5;
  if (event.altKey) return view.pan(-x * 40, -y * 40);
  const point = view.point(x * length, y * length);
  if (isPenDown) act("move", point);
  return null;
}

function press() {
  if (!review.image) return;
  const point = view.point(0, 0);
  isPenDown = !isPenDown;
  act(isPenDown ? "down" : "up", point);
  // A corner or a click needs no second press.
  if (isPenDown && ["p", "f", "i", "m"].includes($("tools").querySelector("[aria-pressed=true]").dataset.key)) press();
}

// Leaves what was begun; scribbles after it count without those before.
function cancel() {
  isPenDown = false;
  review.scribbles = new Map();
  review.tool?.cancel();
  view.draw();
}

// ---- keys

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

function toggleQueue() {
  const isShown = document.body.classList.toggle("with-queue");
  $("toggle-queue").setAttribute("aria-expanded", isShown);
}

// Key -> what it is called in the help, and what it does.
const KEYS = {
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

function listenToKeys() {
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

function showKeys() {
  const names = {" ": "Space", ArrowLeft: "arrows"};
  $("help").querySelector("dl").replaceChildren(...Object.entries(KEYS).filter(([, [text]]) => text).map(([key, [text]]) => {
    const row = element("div");
    const term = element("dt");
    term.append(element("kbd", names[key] ?? (key === "1" ? "1 … 9" : key)));
    row.append(term, element("dd", text));
    return row;
  }));
}

// ---- the page

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
