// Eyes drawn in a style's own line, in units of the eye's radius. x < 0 is the outer side; the right eye is mirrored.
import { stroke } from './pen.mjs';

const white = (radius, ink, width) => `<circle r="${radius}" fill="#fff" stroke="${ink}" stroke-width="${width}"/>`;

const STAR = `M0 -1.25L.36 -.42L1.25 -.36L.57 .21L.78 1.1L0 .62L-.78 1.1L-.57 .21L-1.25 -.36L-.36 -.42Z`;
const HEART = `M0 1.1C-1.7 -.17 -1.02 -1.27 -.34 -1.02Q-.08 -.93 0 -.6Q.08 -.93 .34 -1.02C1.02 -1.27 1.7 -.17 0 1.1Z`;
const sign = (d, fill, ink, width) =>
  `<path d="${d}" fill="${fill}" stroke="${ink}" stroke-width="${width * 0.6}" stroke-linejoin="round"/>`;

const EYES = {
  dot: ink => `<circle r=".5" fill="${ink}"/>`,
  tall: ink => `<ellipse rx=".36" ry=".65" fill="${ink}"/>`,
  wide: (ink, w) => `${white(1, ink, w)}<circle r=".42" fill="${ink}"/>`,
  lookUp: (ink, w) =>
    `${white(1.12, ink, w)}<circle cy="-.35" r=".55" fill="${ink}"/><circle cx="-.18" cy="-.55" r=".2" fill="#fff"/>`,
  shiny: (ink, w) =>
    `${white(1.12, ink, w)}<circle r=".85" fill="${ink}"/>` +
    `<circle cx="-.28" cy="-.32" r=".32" fill="#fff"/><circle cx=".3" cy=".3" r=".17" fill="#fff"/>`,
  tiny: (ink, w) => `${white(1.12, ink, w)}<circle r=".24" fill="${ink}"/>`,
  calm: (ink, w) =>
    `<path d="M-.85 .1A.85 .8 0 0 1 .85 .1A.85 .65 0 0 1 -.85 .1Z" fill="#fff" stroke="${ink}" stroke-width="${w}"/>` +
    `<circle r=".42" fill="${ink}"/>`,
  laugh: (ink, w) => stroke('M-.9 .4Q0 -.95 .9 .4', ink, w * 1.2),
  closed: (ink, w) => stroke('M-.9 -.1Q0 .8 .9 -.1', ink, w * 1.2),
  squeeze: (ink, w) => stroke('M-.8 -.62L.65 0L-.8 .62', ink, w * 1.1),
  narrow: (ink, w) =>
    `<path d="M-.6 -.3L.62 .12A.6 .6 0 0 1 -.6 -.3Z" fill="${ink}"/>${stroke('M-1 -.45L1 .25', ink, w)}`,
  glare: (ink, w) =>
    `<path d="M-.95 -.5L.95 .2A.95 .85 0 0 1 -.95 -.5Z" fill="#fff" stroke="${ink}" stroke-width="${w}"` +
    ` stroke-linejoin="round"/><circle cx=".12" cy=".22" r=".3" fill="${ink}"/>`,
  half: (ink, w) => `<path d="M-.58 -.05H.58A.58 .58 0 0 1 -.58 -.05Z" fill="${ink}"/>${stroke('M-1 -.08H1', ink, w)}`,
  droop: (ink, w) =>
    `<path d="M-.6 .18L.52 -.2A.6 .62 0 0 1 -.6 .18Z" fill="${ink}"/>${stroke('M-1 .32L.9 -.32', ink, w)}`,
  star: (ink, w) => sign(STAR, '#f7c948', ink, w),
  heart: (ink, w) => sign(HEART, '#e0405a', ink, w),
};

// Pairs whose eyes differ, left and right.
const PAIRS = { wink: ['laugh', 'tall'] };

export const EYE_WORDS = {
  dot: 'open eyes',
  tall: 'open eyes',
  wide: 'wide round eyes',
  lookUp: 'wide eyes looking up',
  shiny: 'huge shining eyes',
  tiny: 'staring eyes with tiny pupils',
  calm: 'open eyes',
  laugh: 'laughing curved eyes',
  closed: 'closed eyes',
  squeeze: 'squeezed eyes',
  narrow: 'narrowed eyes',
  glare: 'glaring eyes',
  half: 'half closed eyes',
  droop: 'drooping eyes',
  star: 'star shaped eyes',
  heart: 'heart shaped eyes',
  wink: 'one eye winking',
};

/** Both eyes of a face (see face.mjs for its geometry). */
export function drawEyes(name, face) {
  const [left, right] = PAIRS[name] ?? [name, name];
  const at = ([x, y], width, kind) =>
    `<g transform="translate(${x} ${y}) scale(${width} ${face.eye})">` +
    `${EYES[kind](face.pen.ink, face.pen.line / face.eye)}</g>`;
  return at(face.left, face.eye, left) + at(face.right, -face.eye * face.far, right);
}
