// Shapes on a map of pixels {width, height}: each function marks pixels of a mask with a code.

export const blank = (size) => new Uint16Array(size.width * size.height);

function disc(mask, size, x, y, radius, code) {
  const reach = Math.max(radius, 0.5);
  for (let row = Math.max(0, Math.ceil(y - reach)); row <= Math.min(size.height - 1, Math.floor(y + reach)); row++) {
    const half = Math.sqrt(Math.max(0, reach * reach - (row - y) ** 2));
    const from = Math.max(0, Math.ceil(x - half));
    const to = Math.min(size.width - 1, Math.floor(x + half));
    if (to >= from) mask.fill(code, row * size.width + from, row * size.width + to + 1);
  }
}

export function stroke(mask, size, points, radius, code) {
  let [x, y] = points[0];
  disc(mask, size, x, y, radius, code);
  for (const [nextX, nextY] of points.slice(1)) {
    const steps = Math.ceil(Math.hypot(nextX - x, nextY - y) / Math.max(radius / 2, 0.5));
    for (let i = 1; i <= steps; i++) disc(mask, size, x + (nextX - x) * i / steps, y + (nextY - y) * i / steps, radius, code);
    [x, y] = [nextX, nextY];
  }
}

export function polygon(mask, size, points, code) {
  for (let row = 0; row < size.height; row++) {
    const crossings = [];
    points.forEach(([x1, y1], i) => {
      const [x2, y2] = points[(i + 1) % points.length];
      if ((y1 <= row) !== (y2 <= row)) crossings.push(x1 + (row - y1) * (x2 - x1) / (y2 - y1));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i]));
      const to = Math.min(size.width - 1, Math.floor(crossings[i + 1]));
      if (to >= from) mask.fill(code, row * size.width + from, row * size.width + to + 1);
    }
  }
}

// Marks the pixels that are connected with one, by four neighbours, and for which `inside` holds; returns how many.
export function flood(mask, size, start, inside, code) {
  const pending = [start];
  let count = 0;
  while (pending.length) {
    const at = pending.pop();
    if (mask[at] === code || !inside(at)) continue;
    mask[at] = code;
    count++;
    const x = at % size.width;
    if (x > 0) pending.push(at - 1);
    if (x < size.width - 1) pending.push(at + 1);
    if (at >= size.width) pending.push(at - size.width);
    if (at + size.width < mask.length) pending.push(at + size.width);
  }
  return count;
}

export function pixelAt(size, [x, y]) {
  const column = Math.round(x), row = Math.round(y);
  return column < 0 || row < 0 || column >= size.width || row >= size.height ? -1 : row * size.width + column;
}

// As the server has maps of pixels: start, length and value of each span that is not 0.
export function decode(spans, length) {
  const map = new Uint16Array(length);
  for (let i = 0; i < spans.length; i += 3) map.fill(spans[i + 2], spans[i], spans[i] + spans[i + 1]);
  return map;
}

export function encode(map) {
  const spans = [];
  let start = 0;
  for (let i = 1; i <= map.length; i++) {
    if (i < map.length && map[i] === map[start]) continue;
    if (map[start]) spans.push(start, i - start, map[start]);
    start = i;
  }
  return spans;
}
