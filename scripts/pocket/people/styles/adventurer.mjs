// Adventurer by Lisa Wischofsky (CC BY 4.0).
// Adapted: neck and shoulders; brows above the hair; further eyes, brows and mouths; tears.
import * as design from '@dicebear/adventurer';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { faceGeometry, isDrawn } from '../features/index.mjs';
import { shoulders } from './body.mjs';
import { expressionLayers, ownOr } from './layers.mjs';
import { list, look as lookOf } from './recipes.mjs';
import { BLACK, kindOf, percent, shirt } from './wardrobe.mjs';

const GROUP = '<g transform="translate(-161 -83)">'; // opens eyes, brows, mouth and all that lies above them

const head = { cx: 385, top: 140, chin: 608, half: 0.55 };
const face = faceGeometry({
  left: [220, 418],
  right: [392, 402],
  eye: 42,
  brow: 90,
  browHalf: 55,
  mouth: [305, 510],
  half: 58,
  tilt: -5,
  pen: { line: 8, browLine: 18, cavity: '#7f233d', tongue: '#e57794' },
});

const variant = n => `variant${String(n).padStart(2, '0')}`;
const HAIR = list(`
  long01 long02 long03 long05 long06 long07 long08 long09 long10 long11 long12 long13 long14 long15 long16 long17 long18
  long19 long21 long23 long24 short01 short02 short03 short04 short05 short07 short08 short09 short10 short11 short12
  short13 short14 short15 short17 short18 short19`);
const HAIR_KINDS = [
  [/long1[0123]|long23|short05/, 'hair in a bun'],
  [/long1[456]/, 'tied hair'],
  [/long(03|08|18)/, 'hair with flowers'],
  [/short(03|17)/, 'curly hair'],
  [/short15/, 'mohawk'],
  [/short/, 'short hair'],
  [/./, 'long hair'],
];

function identity(r, reserved) {
  const top = r.pick(reserved(HAIR));
  const skin = r.pick(SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick(CLOTHES);
  const hasGlasses = r.chance(0.14);
  const glasses = variant(r.pick([2, 3, 4, 5]));
  const hasEarring = r.chance(0.15);
  const hasFeature = r.chance(0.12);
  const feature = r.pick(['blush', 'birthmark', 'freckles']);
  return {
    options: {
      hair: [top],
      hairProbability: 100,
      hairColor: [hair],
      skinColor: [skin],
      glasses: [glasses],
      glassesProbability: percent(hasGlasses),
      earrings: [variant(1 + Math.floor(r.next() * 6))],
      earringsProbability: percent(hasEarring),
      features: [feature],
      featuresProbability: percent(hasFeature),
    },
    skin,
    hair: top === 'short19' ? { kind: 'shaved head' } : { colour: hair, kind: kindOf(top, HAIR_KINDS) },
    wears: [
      hasGlasses && { colour: BLACK, kind: 'glasses' },
      hasFeature && feature === 'freckles' && { kind: 'freckles' },
    ].filter(Boolean),
    clothes: shirt(cloth),
  };
}

/** A recipe with the style's variants by their numbers. */
function look(eyes, eyebrows, mouth, more) {
  const named = text =>
    list(text)
      .map(name => (isDrawn(name) ? name : variant(name)))
      .join(' ');
  return lookOf(named(eyes), named(eyebrows), named(mouth), more);
}

const SHOUTS = '11 14 15 +frown +gritArch +shout';
const looks = {
  neutral: {
    plain: [
      look('+calm +tall', '10 12 15 +relaxed', '9 10 +flat', { weight: 2 }),
      look('24 25 1', '10 12 15', '9 10 +flat'),
    ],
  },
  amusement: {
    plain: [
      look('19 +laugh', '10 8 11 4 12', '1 5 16 25 26 27 28 30 +laugh +tongueLaugh', { weight: 3 }),
      look('21 22', '8 11 10 13', '1 16 22 23 25 27 +laugh', { weight: 2 }),
      look('+squeeze', '10 12 13', '26 27 25 +laugh +grin'),
    ],
  },
  anger: {
    plain: [look('14 13 12 11 5', '1 2', SHOUTS, { weight: 3 }), look('+narrow +glare', '1 2', SHOUTS, { weight: 2 })],
  },
  awe: { plain: [look('23', '6 10 13 5', '18 +o +bigO'), look('+lookUp', '13 10 6', '18 +o +bigO +smallO')] },
  contentment: {
    plain: [
      look('20 +closed', '10 12 6', '2 +smile +smallSmile +cheekSmile', { weight: 3 }),
      look('19', '10 12 6', '2 +smallSmile'),
      look('+calm +tall', '10 12', '+smile +cheekSmile'),
    ],
  },
  disgust: {
    plain: [
      look('9 13 14 18 +half', '2 9 3', '12 +yuck +retch', { weight: 2 }),
      look('9 +half +narrow', '9 14 +uneven', '+sneer', { marks: ['wrinkles'] }),
    ],
    sign: [look('9 13 14 12 4 17', '2 9 3 14', '13 +sick')],
  },
  excitement: {
    plain: [look('23 26 25 24 +wide', '13 4 5 10', '1 5 25 26 27 28 30 +bigLaugh')],
    sign: [look('+star +heart', '13 4 5 10', '1 5 25 26 27 28 +bigLaugh')],
  },
  fear: { plain: [look('8 +tiny', '7 +worried', '11 14 +wavy +tremble +gritBox')] },
  sadness: {
    plain: [look('15 16 +droop', '7 +worried', '4 +frown +smallFrown')],
    sign: [look('15 16 20 +closed', '7 +worried', '4 14 +frown +openSad', { marks: ['tears'] })],
  },
};

const byVariant = table => Object.fromEntries(Object.entries(table).map(([n, words]) => [variant(n), words]));
const words = {
  eyes: byVariant({
    1: 'open eyes',
    4: 'heavy eyelids',
    5: 'narrowed eyes',
    8: 'staring eyes with tiny pupils',
    9: 'uneven squinting eyes',
    11: 'narrowed eyes',
    12: 'narrowed eyes',
    13: 'narrowed eyes',
    14: 'narrowed eyes',
    15: 'drooping eyes',
    16: 'drooping eyes',
    17: 'half closed eyes',
    18: 'half closed eyes',
    19: 'laughing curved eyes',
    20: 'closed eyes',
    21: 'one eye winking',
    22: 'one eye winking',
    23: 'wide sparkling eyes',
    24: 'wide open eyes',
    25: 'wide open eyes',
    26: 'wide open eyes',
  }),
  eyebrows: byVariant({
    1: 'heavy lowered brows',
    2: 'lowered slanted brows',
    3: 'knitted brows',
    4: 'thick raised brows',
    5: 'short raised brows',
    6: 'raised brows',
    7: 'worried brows',
    8: 'one raised brow',
    9: 'uneven brows',
    10: 'relaxed brows',
    11: 'one raised brow',
    12: 'relaxed brows',
    13: 'raised brows',
    14: 'ruffled brows',
    15: 'short brows',
  }),
  mouth: byVariant({
    1: 'an open smile',
    2: 'a small smile',
    4: 'a downturned mouth',
    5: 'a big smile with red lips',
    9: 'a straight mouth',
    10: 'a straight mouth',
    11: 'gritted teeth',
    12: 'a tongue hanging out',
    13: 'a sick green mouth',
    14: 'an open downturned mouth',
    15: 'a screaming mouth',
    16: 'a tongue sticking out',
    18: 'a small round open mouth',
    22: 'a toothy grin',
    23: 'a toothy grin',
    25: 'a big smile with teeth',
    26: 'a big laugh',
    27: 'a big laugh',
    28: 'a big laugh',
    30: 'an open smile',
  }),
};

function draw(svg, parts, who) {
  const [base, ...groups] = svg.split(GROUP);
  const [ownEyes, ownBrows, ownMouth, ...above] = groups.map(group => GROUP + group);
  const own = { eyes: ownEyes, eyebrows: ownBrows, mouth: ownMouth };
  const { eyes, eyebrows, mouth, marks } = expressionLayers(parts, { face, head }, own);
  const body = shoulders({ cx: 370, top: 655, half: 250, outline: 8 }, who);
  // brows above the hair, as comics do, so that a fringe does not hide them
  return `${body}${base}${eyes}${mouth}${above.join('')}${eyebrows}${marks}`;
}

export default {
  design,
  head,
  view: 762,
  region: [130, 240, 510, 612],
  identity,
  looks,
  words,
  options: parts => ({
    eyes: ownOr(parts.eyes, variant(24)),
    eyebrows: ownOr(parts.eyebrows, variant(10)),
    mouth: ownOr(parts.mouth, variant(9)),
  }),
  draw,
};
