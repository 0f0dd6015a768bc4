// The photograph with its layers on a canvas; a second canvas beside it shows the labels from before in the same place.

const VOID = 255;

// Colours of instances: steps of the golden ratio keep the hues of consecutive ids far apart.
function hue(id) {
  const h = (id * 0.618034 % 1) * 6;
  const channel = (shift) => Math.round(255 * (0.15 + 0.85 * Math.min(1, Math.max(0, Math.abs((h + shift) % 6 - 3) - 1))));
  return [channel(0), channel(4), channel(2)];
}

const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));

// Paints a map: each value in its colour, its outline darker, so that neighbours are told apart.
export function paint(map, size, colorOf) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [size.width, size.height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(size.width, size.height);
  const colors = new Map();
  for (let at = 0; at < map.length; at++) {
    const value = map[at];
    if (!value) continue;
    if (!colors.has(value)) colors.set(value, value === VOID ? [205, 205, 205] : colorOf(value));
    const [red, green, blue] = colors.get(value);
    const edge = map[at - 1] !== value || map[at + 1] !== value || map[at - size.width] !== value || map[at + size.width] !== value;
    image.data.set([red, green, blue, edge ? 255 : 190], 4 * at);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export const paintLabels = (map, size, classes) => paint(map, size, (value) => rgb(classes[value].color));
export const paintObjects = (map, size) => paint(map, size, hue);

export class View {
  constructor(canvas, beside) {
    this.canvas = canvas;
    this.beside = beside;
    this.layers = [];
    this.before = null;
    this.opacity = 0.55;
    this.sketch = null;
    this.pointer = null;
    this.mouse = null;
    this.waiting = false;
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  show(photo, size) {
    const same = this.size && size && this.size.width === size.width && this.size.height === size.height && this.photo === photo;
    [this.photo, this.size] = [photo, size];
    if (photo !== this.pointedOn) [this.pointedOn, this.pointer] = [photo, null];
    if (same) this.draw();
    else this.fit();
  }

  fit() {
    if (!this.size) return this.draw();
    const {clientWidth, clientHeight} = this.canvas;
    this.scale = Math.min(clientWidth / this.size.width, clientHeight / this.size.height);
    this.left = (clientWidth - this.size.width * this.scale) / 2;
    this.top = (clientHeight - this.size.height * this.scale) / 2;
    return this.draw();
  }

  clear() {
    for (const canvas of [this.canvas, this.beside]) canvas.width = 0;
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const next = Math.min(60, Math.max(0.02, this.scale * factor));
    this.left = x - (x - this.left) * next / this.scale;
    this.top = y - (y - this.top) * next / this.scale;
    this.scale = next;
    this.draw();
  }

  pan(x, y) {
    this.left += x;
    this.top += y;
    this.draw();
  }

  // Pixel [x, y] of the photograph at a place of the canvas; whole numbers are the middles of pixels.
  at(x, y) {
    return [(x - this.left) / this.scale - 0.5, (y - this.top) / this.scale - 0.5];
  }

  // Where the mouse is on the canvas; null where it is not.
  hover(place) {
    this.mouse = place;
    this.draw();
  }

  // The pixel at which one draws: that of the mouse, or of the keyboard where that was moved last.
  get aim() {
    return this.mouse ? this.at(...this.mouse) : this.pointer;
  }

  // Moves the pointer of the keyboard by screen pixels, and the photograph with it where it would leave the canvas.
  point(x, y) {
    this.mouse = null;
    const {clientWidth, clientHeight} = this.canvas;
    const [fromX, fromY] = this.pointer ?? this.at(clientWidth / 2, clientHeight / 2);
    const inside = (value, side) => Math.min(side - 1, Math.max(0, value));
    this.pointer = [inside(fromX + x / this.scale, this.size.width), inside(fromY + y / this.scale, this.size.height)];
    const screen = this.pointer.map((value) => (value + 0.5) * this.scale);
    const outside = (value, side) => (value < 20 ? 20 - value : value > side - 20 ? side - 20 - value : 0);
    this.pan(outside(screen[0] + this.left, clientWidth), outside(screen[1] + this.top, clientHeight));
    return this.pointer;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.photo) return this.clear();
      const context = this.paintOn(this.canvas, this.layers);
      this.paintPointer(context);
      if (this.beside.offsetParent) this.paintOn(this.beside, this.before ? [this.before] : []);
      Object.assign(this.canvas.dataset, {scale: this.scale, left: this.left, top: this.top});
    });
  }

  paintOn(canvas, layers) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.left, ratio * this.top);
    context.imageSmoothingEnabled = this.scale < 3;
    context.globalAlpha = 1;
    context.drawImage(this.photo, 0, 0, this.size.width, this.size.height);
    context.globalAlpha = this.opacity;
    for (const layer of layers) context.drawImage(layer, 0, 0, this.size.width, this.size.height);
    context.globalAlpha = 1;
    return context;
  }

  paintPointer(context) {
    context.save();
    context.translate(0.5, 0.5);
    this.sketch?.(context, this.scale);
    context.restore();
    if (!this.pointer) return;
    const [x, y] = this.pointer.map((value) => value + 0.5);
    context.lineWidth = 1.5 / this.scale;
    context.strokeStyle = "#fff";
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * 3 / this.scale, y + dy * 3 / this.scale);
      context.lineTo(x + dx * 12 / this.scale, y + dy * 12 / this.scale);
    }
    context.stroke();
  }
}
