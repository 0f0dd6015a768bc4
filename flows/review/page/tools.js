// The tools. Each sees where the pointer goes. When it is lifted, `up` answers with a function: called when all steps
// before are saved, it returns the next one, or nothing.
// A step has masks in the values of corrections: 1 background, 2 void, 3 the chosen class; 1 no instance, 2 a new one.

import {blank, encode, flood, pixelAt, polygon, stroke} from "./shapes.js";

const BACKGROUND = 1, FIRST_CLASS = 3, FIRST_INSTANCE = 2;
// Smaller parts of an object that was cut are crumbs of the line, and no objects.
const LEAST_PX = 16, LEAST_SHARE = 0.01;

function line(context, scale, points, width, color, closed = false) {
  context.lineJoin = context.lineCap = "round";
  context.lineWidth = Math.max(width, 1.5 / scale);
  context.strokeStyle = color;
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
  if (closed) context.closePath();
  context.stroke();
}

// What is painted on the photograph is seen on any ground: a light line on a dark one.
const CASING = "#000a", LIGHT = "#fff";

function ring(context, scale, [x, y], radius) {
  for (const [width, color] of [[3, CASING], [1.5, LIGHT]]) {
    context.lineWidth = width / scale;
    context.strokeStyle = color;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

// The step that gives the pixels of a mask the chosen class.
function colored(review, {code, name}, semantic, instances = null) {
  if (review.asNewObject && code >= FIRST_CLASS && !instances) instances = semantic.map((value) => (value ? FIRST_INSTANCE : 0));
  return {
    classes: code >= FIRST_CLASS ? [name] : [],
    semantic: encode(semantic),
    ...(instances ? {instances: encode(instances)} : {}),
  };
}

class Tool {
  constructor(review) {
    this.review = review;
    this.points = [];
  }

  down(point) {
    this.points = [point];
  }

  move(point) {
    if (this.points.length) this.points.push(point);
  }

  take() {
    const points = this.points;
    this.points = [];
    return points;
  }

  cancel() {
    this.points = [];
  }

  // Paints what was begun, in pixels of the photograph.
  sketch() {}
}

class Brush extends Tool {
  get code() {
    return this.review.chosen.code;
  }

  up() {
    const points = this.take();
    if (!points.length) return null;
    const mask = blank(this.review.size);
    stroke(mask, this.review.size, points, this.review.radius, this.code);
    const step = this.step(mask);
    return () => step;
  }

  step(mask) {
    return colored(this.review, this.review.chosen, mask);
  }

  sketch(context, scale) {
    const {radius, view} = this.review;
    if (this.points.length) line(context, scale, this.points, 2 * radius, this.color);
    if (view.aim) ring(context, scale, view.aim, radius);
  }

  get color() {
    return this.review.chosen.color + "b0";
  }
}

class Eraser extends Brush {
  get code() {
    return BACKGROUND;
  }

  step(mask) {
    return {semantic: encode(mask)};
  }

  get color() {
    return "#000000a0";
  }
}

class Polygon extends Tool {
  down(point) {
    this.points.push(point);
  }

  move() {}

  // The first corner again closes it.
  up(point) {
    const [first] = this.points;
    const near = 8 / this.review.view.scale;
    const closes = this.points.length > 3 && Math.hypot(point[0] - first[0], point[1] - first[1]) < near;
    return closes ? this.finish() : null;
  }

  finish() {
    if (this.points.length < 3) return null;
    const mask = blank(this.review.size);
    polygon(mask, this.review.size, this.take(), this.review.chosen.code);
    const step = colored(this.review, this.review.chosen, mask);
    return () => step;
  }

  sketch(context, scale) {
    if (this.points.length) line(context, scale, this.points, 0, this.review.chosen.color, true);
  }
}

// What happens at one pixel, when the pointer leaves it.
class Click extends Tool {
  up(point) {
    const isBegun = this.take().length > 0;
    const at = pixelAt(this.review.size, point);
    const {chosen} = this.review;
    return !isBegun || at < 0 ? null : () => this.click(at, chosen);
  }
}

class Fill extends Click {
  click(at, chosen) {
    const {labels, objects, size} = this.review;
    const mask = blank(size);
    flood(mask, size, at, (other) => labels[other] === labels[at] && objects[other] === objects[at], chosen.code);
    return colored(this.review, chosen, mask);
  }
}

const isObject = (id) => id !== 0 && id !== 255;

class Assign extends Click {
  click(at, chosen) {
    const {objects} = this.review;
    if (!isObject(objects[at])) return this.review.say("There is no object here.");
    const semantic = objects.map((id) => (id === objects[at] ? chosen.code : 0));
    const instances = chosen.code < FIRST_CLASS ? null : semantic.map((code) => (code ? FIRST_INSTANCE : 0));
    return colored(this.review, chosen, semantic, instances);
  }
}

class Merge extends Click {
  cancel() {
    super.cancel();
    this.first = null;
  }

  click(at) {
    const {labels, objects, classes} = this.review;
    if (!isObject(objects[at])) return this.review.say("There is no object here.");
    if (!this.first || !isObject(objects[this.first])) {
      this.first = at;
      return this.review.say("Now the object that belongs to it.");
    }
    const [one, other] = [objects[this.first], objects[at]];
    const [value, was] = [labels[this.first], labels[at]];
    this.first = null;
    if (one === other) return this.review.say("That is the same object.");
    const instances = objects.map((id) => (id === one || id === other ? FIRST_INSTANCE : 0));
    const semantic = objects.map((id) => (id === other ? FIRST_CLASS : 0));
    const {name} = classes[value];
    const note = value === was ? "" : `Both are one object of the class ${name} now.`;
    return {note, classes: [name], semantic: encode(semantic), instances: encode(instances)};
  }
}

// A line through an object: what it cuts off becomes an object of its own.
class Split extends Tool {
  up() {
    const points = this.take();
    return points.length ? () => this.cut(points) : null;
  }

  cut(points) {
    const {objects, size} = this.review;
    const cut = blank(size);
    stroke(cut, size, points, 1, 1);
    const crossed = new Set(objects.filter((id, at) => cut[at] && isObject(id)));
    const instances = blank(size);
    let next = FIRST_INSTANCE;
    for (const id of crossed) next = this.divide(id, cut, instances, next);
    if (next === FIRST_INSTANCE) return this.review.say("The line must cut an object in two.");
    return {instances: encode(instances)};
  }

  // The largest part keeps what the line leaves of the object: its own pixels and all crumbs.
  divide(id, cut, instances, next) {
    const {parts, map, area} = this.parts(id, cut);
    const least = Math.max(LEAST_PX, LEAST_SHARE * area);
    const large = parts.filter(({count}) => count >= least).sort((a, b) => b.count - a.count);
    const names = new Map(large.slice(1).map((part, i) => [part.code, next + i]));
    map.forEach((code, at) => {
      if (names.has(code)) instances[at] = names.get(code);
    });
    return next + names.size;
  }

  parts(id, cut) {
    const {objects, size} = this.review;
    const [parts, map] = [[], blank(size)];
    let area = 0;
    objects.forEach((other, at) => {
      if (other !== id) return;
      area++;
      if (cut[at] || map[at]) return;
      const code = parts.length + 1;
      parts.push({code, count: flood(map, size, at, (place) => objects[place] === id && !cut[place] && !map[place], code)});
    });
    return {parts, map, area};
  }

  sketch(context, scale) {
    if (this.points.length) line(context, scale, this.points, 0, LIGHT);
  }
}

// Strokes that the server grows to regions by the random walk. All strokes since the tool was taken count together,
// but for those that were undone: which count is known of each state of the image that undo and redo lead to.
class Scribble extends Tool {
  up() {
    const points = this.take();
    const {chosen, scribbles} = this.review;
    return points.length ? () => this.grow({...chosen, points, radius: Math.min(this.review.radius, 4)}, scribbles) : null;
  }

  grow(last, scribbles) {
    const {steps} = this.review;
    const {step, strokes: before} = scribbles.get(steps) ?? {step: steps, strokes: []};
    const strokes = [...before, last];
    const saved = (now, begun) => scribbles.set(now, {step: begun, strokes});
    return {walk: true, saved, step, ...this.drawn(strokes)};
  }

  drawn(strokes) {
    const mask = blank(this.review.size);
    const classes = [...new Set(strokes.filter(({code}) => code >= FIRST_CLASS).map(({name}) => name))];
    for (const {points, radius, code, name} of strokes) {
      stroke(mask, this.review.size, points, radius, code >= FIRST_CLASS ? FIRST_CLASS + classes.indexOf(name) : code);
    }
    return {classes, semantic: encode(mask)};
  }

  sketch(context, scale) {
    const {scribbles, steps, chosen} = this.review;
    for (const {points, color} of scribbles.get(steps)?.strokes ?? []) {
      line(context, scale, points, 3.5 / scale, LIGHT);
      line(context, scale, points, 0, color);
    }
    if (this.points.length) line(context, scale, this.points, 8, chosen.color);
  }
}

// Key -> name, what it does, and the tool.
export const TOOLS = {
  b: ["Brush", "paint the chosen class", Brush],
  e: ["Eraser", "make pixels background", Eraser],
  p: ["Polygon", "corner by corner; Enter or the first corner closes it", Polygon],
  s: ["Scribble", "mark a class, and background; the walk finds the rest", Scribble],
  f: ["Fill", "give a region the chosen class", Fill],
  i: ["Object", "give an object the chosen class", Assign],
  m: ["Merge", "two objects become one, of the first one's class", Merge],
  x: ["Split", "draw a line through an object", Split],
};
