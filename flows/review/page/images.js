// Which image is shown.

import {address, get} from "./api.js";
import {$, enqueue, review, say, tagBox, view} from "./page.js";
import {cancel} from "./pointer.js";
import {loadQueue} from "./queue.js";
import {onThisImage, save, takeAnew} from "./steps.js";

// Opens the first image that has no step yet.
export async function begin() {
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

export function open(place) {
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

export function judge(verdict) {
  return onThisImage(async () => await save({verdict}) && show(review.place + 1));
}

// A click on an image of the queue opens it.
review.open = open;
