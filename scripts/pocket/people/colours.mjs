// Skin, hair and clothes colours (hex, as DiceBear takes them), and the words that captions have for them.

// No darker: facial lines are black, and must stay visible at 96 px.
export const SKINS = ['ffdbb4', 'f2d3b1', 'edb98a', 'd9a06f', 'd08b5b', 'b97a4b', 'ae5d29', '9a623a', '8a5a34'];

const list = text => text.trim().split(/\s+/);
export const HAIRS = list(`
  1a1a1a 2c1b18 4a312c 724133 a55728 b58143 d6b370 ecdcbf c93305 e8e1e1 afafaf f59797 605de4 238d80 592454`);
export const CLOTHES = list(`
  262e33 5199e4 25557c e6e6e6 929598 a7ffc4 ffafb9 ffffb1 ff488e ff5c5c 9287ff 78e185 f4a261 2a9d8f 6d4bb0`);

const NAMED = {
  black: '1a1a1a',
  'dark brown': '4a2f20',
  brown: '80522f',
  auburn: '96402a',
  red: 'd23a30',
  orange: 'e88a3a',
  blond: 'd9bc7a',
  yellow: 'f4e26a',
  green: '55b56a',
  'light green': 'a7f0bd',
  teal: '2f9a90',
  'light blue': '9fd8e8',
  blue: '5a8ad8',
  'dark blue': '2a4a78',
  purple: '6d4bb0',
  'light purple': 'b9b0f5',
  'dark grey': '363b40',
  'light orange': 'f2a868',
  pink: 'f29ac0',
  'light pink': 'fbdde0',
  grey: '8f9296',
  'light grey': 'cfd2d6',
  white: 'f8f8f8',
  cream: 'f6e6c0',
};
const OF_HAIR = { cream: 'light blond', 'light orange': 'blond', 'dark grey': 'black' };
const OF_CLOTHES = { blond: 'tan', auburn: 'brown' };
const MELTS_BELOW = 110;

const rgb = hex => [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16));

function isApart(a, b) {
  const [one, other] = [rgb(a), rgb(b)];
  return one.reduce((sum, x, i) => sum + Math.abs(x - other[i]), 0) >= MELTS_BELOW;
}

/** The hair colour, or another one where it would melt into the skin. */
export function hairFor(hair, skin) {
  if (isApart(hair, skin)) return hair;
  const clear = HAIRS.filter(h => isApart(h, skin));
  return clear[HAIRS.indexOf(hair) % clear.length];
}

/** The nearest named colour; green weighs most, as it does in luminance. */
export function colourName(hex, isHair) {
  const [r, g, b] = rgb(hex);
  const distance = name => {
    const [r2, g2, b2] = rgb(NAMED[name]);
    return 2 * (r - r2) ** 2 + 4 * (g - g2) ** 2 + 3 * (b - b2) ** 2;
  };
  const nearest = Object.keys(NAMED).reduce((best, name) => (distance(name) < distance(best) ? name : best));
  return (isHair ? OF_HAIR : OF_CLOTHES)[nearest] ?? nearest;
}
