// Marks that go with an expression: tears, and wrinkles over the nose.
import { stroke } from './pen.mjs';

const TEAR = 'M0 -14C6 -4 9 1 9 6A9 9 0 0 1 -9 6C-9 1 -6 -4 0 -14Z';
const TEAR_SIZE = 15; // the eye's radius for which TEAR has its natural size

export const tear = (x, y, scale) =>
  `<path transform="translate(${x} ${y}) scale(${scale})" d="${TEAR}"` +
  ` fill="#6ec6ee" stroke="#2b7fb0" stroke-width="2"/>`;

function tears({ left, right, eye }) {
  const under = ([x, y], side) => tear(x + side * eye * 0.35, y + eye * 2, eye / TEAR_SIZE);
  return under(left, -1) + under(right, 1);
}

function wrinkles({ left, right, eye: r, bridge, pen }) {
  const x = (left[0] + right[0]) / 2 + bridge;
  const y = (left[1] + right[1]) / 2;
  const d =
    `M${x - r * 0.45} ${y - r * 0.3}L${x + r * 0.1} ${y}M${x + r * 0.55} ${y - r * 0.35}L${x + r * 0.15} ${y}` +
    `M${x - r * 0.35} ${y + r * 0.45}L${x + r * 0.45} ${y + r * 0.4}`;
  return stroke(d, pen.ink, pen.line * 0.6);
}

const MARKS = { tears, wrinkles };
export const MARK_WORDS = { tears: 'tears', wrinkles: 'a wrinkled nose' };

export const drawMarks = (marks, face) => marks.map(mark => MARKS[mark](face)).join('');
