// The classes to choose from.

import {$, element, review} from "./page.js";

const VOID = 255;

export function showClasses() {
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

export function choose(one) {
  if (!one) return;
  const changed = one.name !== review.chosen.name || one.code !== review.chosen.code;
  review.chosen = one;
  if (changed) showClasses();
}
