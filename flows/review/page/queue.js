// The queue: images in the order of review, and what became of each.

import {address, get} from "./api.js";
import {$, element, review} from "./page.js";

const PAGE = 100;

export async function loadQueue() {
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
  button.addEventListener("click", () => review.open(review.queue.indexOf(image)));
  item.append(button);
  image.item = item;
  markItem(image);
  return item;
}

export function markItem(image) {
  image.item.className = image.verdict ?? (image.steps ? "edited" : "");
}

export function showProgress() {
  const done = review.proposed ? `${review.done} of ${review.count} corrected` : `${review.place + 1 || 1} of ${review.count}, ${review.done} looked at`;
  $("progress").textContent = `${done} · ${review.name} · ${review.author}`;
}
