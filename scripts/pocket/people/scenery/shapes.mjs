// SVG shapes that backgrounds are built of. The canvas is 128 units square, whatever the picture's size in pixels.
export const CANVAS = 128;

const turn = hue => ((hue % 360) + 360) % 360;
export const hsl = (hue, saturation, lightness) => `hsl(${turn(hue) | 0},${saturation | 0}%,${lightness | 0}%)`;

export const rect = (x, y, width, height, fill, more = '') =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}" ${more}/>`;

export const disc = (x, y, radius, fill) => `<circle cx="${x}" cy="${y}" r="${radius}" fill="${fill}"/>`;

const DIRECTIONS = [
  [0, 1],
  [1, 1],
  [1, 0],
  [0.4, 1],
];

/** The whole canvas, running from one colour to another in a direction that the stream picks. */
export function gradient(r, from, to) {
  const [x2, y2] = r.pick(DIRECTIONS);
  return (
    `<defs><linearGradient id="sky" x1="0" y1="0" x2="${x2}" y2="${y2}">` +
    `<stop offset="0" stop-color="${from}"/><stop offset="1" stop-color="${to}"/></linearGradient></defs>` +
    `<rect width="${CANVAS}" height="${CANVAS}" fill="url(#sky)"/>`
  );
}

const HUES_BELOW = [
  [15, 'red'],
  [45, 'orange'],
  [70, 'yellow'],
  [160, 'green'],
  [200, 'teal'],
  [255, 'blue'],
  [295, 'purple'],
  [345, 'pink'],
  [361, 'red'],
];
export const hueName = hue => HUES_BELOW.find(([top]) => turn(hue) < top)[1];
