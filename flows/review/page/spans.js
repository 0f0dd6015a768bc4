// Maps of pixels as the server has them: start, length and value of each span that is not 0.

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
