// The box with an image's tags: what is saved of them, and what a person types.

// Names in a text are separated by semicolons, and by commas except within the name of a known class.
export function namesIn(text, known) {
  const names = text.split(";").flatMap((part) => atCommas(part.split(","), known));
  return [...new Set(names.filter(Boolean))].sort();
}

function atCommas(parts, known) {
  const names = [];
  for (let start = 0; start < parts.length;) {
    const joined = (end) => parts.slice(start, end).join(",").trim();
    let end = parts.length;
    while (end > start + 1 && !known.has(joined(end))) end--;
    names.push(joined(end));
    start = end;
  }
  return names;
}

// The box's default value is what was shown or sent last, so that any other value was typed since.
export class TagBox {
  constructor(input) {
    this.input = input;
    input.addEventListener("input", () => input.removeAttribute("aria-invalid"));
  }

  get isTyped() {
    return this.input.value !== this.input.defaultValue;
  }

  get isRefused() {
    return this.input.hasAttribute("aria-invalid");
  }

  show(tags, image) {
    this.input.defaultValue = tags.join("; ");
    this.input.value = this.input.defaultValue;
    this.input.readOnly = !image;
    this.input.dataset.image = image ?? "";
    this.input.removeAttribute("aria-invalid");
  }

  // What a person types stays, unless it is of another image.
  update(tags, image) {
    if (!this.isTyped || this.input.dataset.image !== image) this.show(tags, image);
  }

  send() {
    this.input.defaultValue = this.input.value;
    return this.input.value;
  }

  // What was refused comes back to be mended, unless something else was typed meanwhile.
  refuse(text, tags, image) {
    if (this.isTyped) return;
    this.show(tags, image);
    this.input.value = text;
    this.input.setAttribute("aria-invalid", "true");
  }
}
