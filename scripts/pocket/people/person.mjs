// A person: all that stays when the expression changes. Identity and place come from random streams of their own.
import { RandomStream } from './random.mjs';
import { CANVAS } from './scenery/shapes.mjs';
import { scenery } from './scenery/index.mjs';
import { STYLES } from './styles/index.mjs';

// A head's height, of 128: close framing matters more to a judge than the size of the picture.
const SMALLEST_HEAD = 70;
const LARGEST_HEAD = 92;
const LEAST_MARGIN = 34; // from a head's middle to the side, so that shoulders are seen
const FOOT = 124; // no chin below

/** Every seventh hair of a style is kept for held-out persons; half of them wear one. */
const reservedFor = (split, r) => all => {
  const kept = all.filter((_, i) => i % 7 === 3);
  const usual = all.filter((_, i) => i % 7 !== 3);
  const isHeldOut = split === 'test' || split === 'validation';
  return isHeldOut && r.chance(0.5) && kept.length ? kept : usual;
};

/** Where the head is: { scale, mirror, cx, top, height } on the canvas, from the rest of the identity's stream. */
function framing(r, { head, view, bodyEnds, smallest = SMALLEST_HEAD }) {
  const height = r.between(smallest, LARGEST_HEAD);
  const scale = height / (head.chin - head.top);
  const mirror = r.chance(0.5);
  const margin = Math.max(height * (head.half ?? 0.5) + 2, LEAST_MARGIN);
  const cx = r.between(margin, CANVAS - margin);
  let top = r.between(Math.min(10, FOOT - height), Math.max(14, CANVAS - 10 - height));
  if (bodyEnds) top = Math.max(top, CANVAS + 1 - (view - head.top) * scale);
  return { scale, mirror, cx, top: Math.min(top, FOOT - height), height };
}

/** The person with this number. The subject's name is unique among all splits, seeds and styles. */
export function makePerson({ style, split, seed, index }, photos) {
  const r = new RandomStream(`identity/${split}/${seed}/${style}/${index}`);
  const who = STYLES[style].identity(r, reservedFor(split, r));
  const place = scenery(new RandomStream(`place/${split}/${seed}/${index}`), split, photos);
  return { ...who, style, subject: `${split}-${seed}-${index}-${style}`, place, ...framing(r, STYLES[style]) };
}
