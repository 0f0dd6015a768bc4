// What the server has of an image, and the steps that are saved: pixels, verdicts and tags, undo and redo.

import {post} from "./api.js";
import {showClasses} from "./classes.js";
import {showCams, showLayers} from "./layers.js";
import {$, enqueue, review, say, tagBox, view} from "./page.js";
import {markItem, showProgress} from "./queue.js";
import {decode} from "./shapes.js";
import {namesIn} from "./tags.js";

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
export async function takeAnew(state) {
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
export function onThisImage(work) {
  const {image} = review;
  if (!image) return null;
  return enqueue(() => (review.image === image ? work() : say(`Not saved: ${image} is no longer open.`, true)));
}

// Saves a step; where somebody else was first, asks whether it goes over what he did.
// A number names what the image was like after so many steps; nothing that was saved is ever deleted.
export async function save({walk, note, saved, ...content}) {
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

export function travel(from, to) {
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

export const past = () => review.past;
export const future = () => review.future;

export function saveTags() {
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

export function leaveTags() {
  // A box that another window or a dialog covers will be gone on with.
  if (document.activeElement === $("tags") || document.querySelector("dialog[open]")) return;
  if (!tagBox.isRefused) saveTags();
}
