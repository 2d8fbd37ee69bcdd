// Brows drawn in a style's own line, in units of half a brow. x < 0 is the outer side; the right brow is mirrored.
import { stroke } from './pen.mjs';

const LOWERING = 0.6; // of half a brow, for `down` = 1
const BROWS = {
  relaxed: { d: 'M-1 .15Q-.1 -.4 1 .05', down: 0 },
  flat: { d: 'M-1 0L1 .02', down: 0 },
  high: { d: 'M-1 .2Q0 -.85 1 0', down: -0.55 },
  angry: { d: 'M-1 -.5L1 .5', down: 0.5 },
  worried: { d: 'M-1 .5Q.1 .15 .95 -.65', down: -0.1 },
  knit: { d: 'M-1 -.25Q.4 -.2 1 .5', down: 0.4 },
};

// Pairs whose brows differ, left and right.
const PAIRS = { uneven: ['knit', 'high'], cocked: ['high', 'flat'] };

export const BROW_WORDS = {
  relaxed: 'relaxed brows',
  flat: 'straight brows',
  high: 'raised brows',
  angry: 'lowered slanted brows',
  worried: 'worried brows',
  knit: 'knitted brows',
  uneven: 'uneven brows',
  cocked: 'one raised brow',
};

/** Both brows of a face. */
export function drawBrows(name, face) {
  const half = face.browHalf;
  const [left, right] = PAIRS[name] ?? [name, name];
  const at = ([x, y], width, { d, down }) =>
    `<g transform="translate(${x} ${y - face.brow + down * half * LOWERING}) scale(${width} ${half})">` +
    `${stroke(d, face.pen.brow, face.pen.browLine / half)}</g>`;
  return at(face.left, half, BROWS[left]) + at(face.right, -half * face.far, BROWS[right]);
}
