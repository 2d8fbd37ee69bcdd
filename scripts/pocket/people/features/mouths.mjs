// Mouths drawn in a style's own line, in units of half a mouth. Each takes the pen (p) and its line width (w).
import { stroke } from './pen.mjs';

const OPEN_LAUGH = 'M-1 -.4Q0 -.15 1 -.4C1.02 .5 .55 .95 0 .95C-.55 .95 -1.02 .5 -1 -.4Z';
const ARCH = 'M-.9 .5C-.95 -.25 -.5 -.55 0 -.55C.5 -.55 .95 -.25 .9 .5Q0 .1 -.9 .5Z'; // open, corners down
const GREEN = '#7cc24a';

const line = d => (p, w) => stroke(d, p.ink, w);
const fill = (d, colour) => `<path d="${d}" fill="${colour}"/>`;
const tongueInside = (y, rx, ry, p) => `<ellipse cy="${y}" rx="${rx}" ry="${ry}" fill="${p.tongue}"/>`;
const teethLines = (xs, top, low, p, w) => xs.map(x => stroke(`M${x} ${top}V${low}`, p.ink, w * 0.5)).join('');

function tongueOut(top, p, w) {
  const outline =
    `M-.4 ${top}C-.15 ${top - 0.1} .15 ${top - 0.1} .4 ${top}C.48 ${top + 0.75} .32 ${top + 1} 0 ${top + 1}` +
    `C-.32 ${top + 1} -.48 ${top + 0.75} -.4 ${top}Z`;
  return (
    `<path d="${outline}" fill="${p.tongue}" stroke="${p.ink}" stroke-width="${w * 0.8}"/>` +
    stroke(`M0 ${top + 0.1}V${top + 0.5}`, p.ink, w * 0.5)
  );
}

const CLOSED = {
  flat: line('M-.65 0L.65 0'),
  flatShort: line('M-.42 .02L.42 -.02'),
  flatTilt: line('M-.6 .08L.6 -.08'),
  smile: line('M-.85 -.25Q0 .75 .85 -.25'),
  smallSmile: line('M-.55 -.12Q0 .45 .55 -.12'),
  cheekSmile: (p, w) =>
    stroke('M-.75 -.15Q0 .6 .75 -.15', p.ink, w) +
    stroke('M-.9 -.02Q-.82 -.2 -.62 -.26M.9 -.02Q.82 -.2 .62 -.26', p.ink, w * 0.7),
  frown: line('M-.85 .4Q0 -.75 .85 .4'),
  smallFrown: line('M-.55 .25Q0 -.45 .55 .25'),
  wavy: line('M-.9 .12Q-.68 -.38 -.45 .05T0 .04T.45 .02T.9 -.05'),
};

const LAUGHS = {
  laugh: (p, w) =>
    stroke(OPEN_LAUGH, p.ink, w, p.cavity) +
    fill('M-.88 -.33Q0 -.1 .88 -.33L.82 -.02Q0 .2 -.82 -.02Z', '#fff') +
    tongueInside('.68', '.46', '.22', p),
  bigLaugh: (p, w) =>
    stroke('M-1.05 -.6Q0 -.42 1.05 -.6C1.1 .6 .6 1.15 0 1.15C-.6 1.15 -1.1 .6 -1.05 -.6Z', p.ink, w, p.cavity) +
    fill('M-.93 -.52Q0 -.35 .93 -.52L.9 -.2Q0 0 -.9 -.2Z', '#fff') +
    tongueInside('.82', '.52', '.27', p),
  grin: (p, w) =>
    stroke('M-1.05 -.4Q0 -.05 1.05 -.4C1.05 .35 .6 .7 0 .7C-.6 .7 -1.05 .35 -1.05 -.4Z', p.ink, w, '#fff') +
    stroke('M-.95 .02Q0 .38 .95 .02', p.ink, w * 0.5) +
    teethLines([-0.5, 0, 0.5], -0.2, 0.55, p, w),
  tongueLaugh: (p, w) =>
    stroke('M-1 -.4Q0 -.15 1 -.4C1 .35 .6 .6 0 .6C-.6 .6 -1 .35 -1 -.4Z', p.ink, w, p.cavity) + tongueOut(0.2, p, w),
};

const ROUND = {
  o: (p, w) =>
    `<ellipse rx=".4" ry=".52" fill="${p.cavity}" stroke="${p.ink}" stroke-width="${w * 0.6}"/>` +
    tongueInside('.28', '.24', '.17', p),
  smallO: p => `<ellipse rx=".26" ry=".34" fill="${p.cavity}"/>`,
  bigO: (p, w) =>
    `<ellipse rx=".45" ry=".75" cy=".1" fill="${p.cavity}" stroke="${p.ink}" stroke-width="${w * 0.6}"/>` +
    tongueInside('.55', '.27', '.2', p),
};

const TENSE = {
  openSad: (p, w) =>
    stroke('M-.75 .45C-.75 -.25 -.4 -.5 0 -.5C.4 -.5 .75 -.25 .75 .45Q0 .1 -.75 .45Z', p.ink, w, p.cavity) +
    tongueInside('.18', '.36', '.14', p),
  shout: (p, w) =>
    stroke('M-.95 .75C-1.05 -.3 -.6 -.7 0 -.7C.6 -.7 1.05 -.3 .95 .75Q0 .5 -.95 .75Z', p.ink, w, p.cavity) +
    fill('M-.7 -.32Q0 -.85 .7 -.32L.66 -.05Q0 -.42 -.66 -.05Z', '#fff') +
    fill('M-.68 .62Q0 .42 .68 .62L.62 .38Q0 .22 -.62 .38Z', '#fff'),
  gritArch: (p, w) =>
    stroke(ARCH, p.ink, w, '#fff') +
    stroke('M-.9 .1Q0 -.4 .9 .1', p.ink, w * 0.5) +
    teethLines([-0.45, 0, 0.45], -0.4, 0.22, p, w),
  gritBox: (p, w) =>
    stroke('M-.8 -.3Q-.4 -.42 0 -.3T.8 -.3Q.98 0 .8 .34Q.4 .2 0 .34T-.8 .34Q-.98 0 -.8 -.3Z', p.ink, w, '#fff') +
    stroke('M-.88 .02Q0 .08 .88 .02', p.ink, w * 0.5) +
    teethLines([-0.45, 0, 0.45], -0.25, 0.26, p, w),
  tremble: (p, w) =>
    stroke('M-.75 .3Q-.7 -.3 -.35 -.22T.2 -.26T.75 -.12Q.85 .3 .5 .28T-.1 .34T-.75 .3Z', p.ink, w, p.cavity),
};

const DISGUSTED = {
  yuck: (p, w) => stroke('M-.9 .2Q0 -.75 .9 .2', p.ink, w) + tongueOut(-0.18, p, w),
  retch: (p, w) => stroke(ARCH, p.ink, w, p.cavity) + tongueOut(-0.05, p, w),
  sick: (p, w) =>
    stroke(ARCH, p.ink, w, p.cavity) +
    `<path d="M-.6 .15C-.3 -.2 .3 -.2 .6 .15C.6 .4 .55 .85 .34 .85C.14 .85 .18 .5 0 .5
      C-.14 .5 -.1 1.1 -.32 1.1C-.55 1.1 -.56 .5 -.6 .15Z"
      fill="${GREEN}" stroke="${p.ink}" stroke-width="${w * 0.5}"/>`,
  sneer: (p, w) =>
    stroke(
      `M-.95 .6C-.9 -.05 -.6 -.2 -.25 -.22C.05 -.25 .15 -.8 .5 -.8
      C.9 -.8 1.05 -.2 1 .4C.8 .02 .45 -.05 .1 .08C-.3 .2 -.65 .2 -.95 .6Z`,
      p.ink,
      w,
      '#fff',
    ) + stroke('M.05 -.25V.1M.5 -.78V.02M-.4 -.2V.22', p.ink, w * 0.5),
};

const MOUTHS = { ...CLOSED, ...LAUGHS, ...ROUND, ...TENSE, ...DISGUSTED };

export const MOUTH_WORDS = {
  flat: 'a straight mouth',
  flatShort: 'a straight mouth',
  flatTilt: 'a straight mouth',
  smile: 'a smile',
  smallSmile: 'a small smile',
  cheekSmile: 'a smile',
  laugh: 'a big laugh',
  bigLaugh: 'a big laugh',
  grin: 'a toothy grin',
  tongueLaugh: 'a laugh with the tongue out',
  frown: 'a downturned mouth',
  smallFrown: 'a downturned mouth',
  openSad: 'an open downturned mouth',
  shout: 'a shouting mouth',
  gritArch: 'bared teeth',
  gritBox: 'gritted teeth',
  o: 'a round open mouth',
  smallO: 'a small round open mouth',
  bigO: 'a dropped open mouth',
  wavy: 'a wavy mouth',
  tremble: 'a trembling open mouth',
  yuck: 'a tongue sticking out under a downturned mouth',
  sick: 'a sick green mouth',
  sneer: 'a crooked sneer',
  retch: 'an open downturned mouth with the tongue hanging out',
};

/** The mouth of a face. */
export function drawMouth(name, face) {
  const [x, y] = face.mouth;
  return (
    `<g transform="translate(${x} ${y}) rotate(${face.tilt}) scale(${face.half})">` +
    `${MOUTHS[name](face.pen, face.pen.line / face.half)}</g>`
  );
}
