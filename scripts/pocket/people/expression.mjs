// The drawings of an expression: which parts a person's face shows. Each comes from a stream of the person, the
// expression and the attempt.
import { RandomStream } from './random.mjs';
import { STYLES } from './styles/index.mjs';

const PARTS = ['face', 'eyes', 'eyebrows', 'mouth'];
const SIGN_SHARE = 0.47; // below one half: an emotion is a face, not a sticker
const SIZE = 0.08; // brows and mouths grow or shrink by up to this,
const LIFT = 0.015; // and move by up to this share of the head

function drawOnce(style, subject, expression, attempt) {
  const r = new RandomStream(`expression/${subject}/${expression}/${attempt}`);
  const { plain, sign = [] } = STYLES[style].looks[expression];
  const hasSign = r.chance(SIGN_SHARE) && sign.length > 0;
  const recipe = r.weighted(hasSign ? sign : plain, ({ weight }) => weight);
  const parts = { marks: recipe.marks, hasSign, jitter: {} };
  for (const kind of PARTS) if (recipe[kind]?.length) parts[kind] = r.pick(recipe[kind]);
  for (const kind of ['eyebrows', 'mouth']) {
    parts.jitter[kind] = { size: r.between(1 - SIZE, 1 + SIZE), lift: r.between(-LIFT, LIFT) };
  }
  return parts;
}

const nameOf = parts => [...PARTS.map(kind => parts[kind] ?? ''), ...parts.marks].join('/');

/** Up to `most` drawings of the expression that differ in more than size and height. */
export function drawingsOf({ style, subject }, expression, most) {
  const found = new Map();
  for (let attempt = 0; attempt < 4 * most && found.size < most; attempt++) {
    const parts = drawOnce(style, subject, expression, attempt);
    if (!found.has(nameOf(parts))) found.set(nameOf(parts), parts);
  }
  return [...found.values()];
}

/** The parts by their names, as a picture's record keeps them. */
export function partNames(parts) {
  const named = PARTS.filter(kind => parts[kind]).map(kind => [kind, parts[kind]]);
  return { ...Object.fromEntries(named), marks: parts.marks };
}
