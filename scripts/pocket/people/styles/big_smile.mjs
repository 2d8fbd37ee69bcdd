// Custom Avatar ("Big Smile") by Ashley Seo (CC BY 4.0).
// Adapted: neck and shoulders; further eyes, brows and mouths; tears. The style's own eyes include brows.
import * as design from '@dicebear/big-smile';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { faceGeometry } from '../features/index.mjs';
import { shoulders } from './body.mjs';
import { expressionLayers, ownOr, splitAt } from './layers.mjs';
import { list, look } from './recipes.mjs';
import { kindOf, percent, shirt } from './wardrobe.mjs';

const PART = '<g transform="matrix(.85472 0 0 .855 19 -17)">'; // opens the mouth, and again the eyes
const HAIR_GROUP = '<g transform="matrix(.85472 0 0 .85667 18 -15)">';

const head = { cx: 222, top: 68, chin: 408, half: 0.63 };
const face = faceGeometry({
  left: [284, 240],
  right: [366, 240],
  eye: 22,
  far: 0.75,
  brow: 46,
  browHalf: 25,
  mouth: [334, 322],
  half: 46,
  bridge: 10,
  pen: { ink: '#4a1a1d', line: 7, brow: '#5a3420', browLine: 11, cavity: '#873C41', tongue: '#EE7E8B' },
});

const LIGHT_SKINS = SKINS.slice(0, 7); // its lines are brown, not black
const HAIR = list(`
  shortHair mohawk wavyBob bowlCutHair curlyBob straightHair braids shavedHead bunHair froBun bangs halfShavedHead
  curlyShortHair`);
const HAIR_KINDS = [
  [/curly|fro/, 'curly hair'],
  [/braids/, 'braids'],
  [/bunHair/, 'hair in a bun'],
  [/mohawk/, 'mohawk'],
  [/short|shaved|Shaved|bowl/, 'short hair'],
  [/./, 'long hair'],
];
const ACCESSORIES = {
  glasses: { colour: 'd6b370', kind: 'glasses' },
  catEars: { kind: 'cat ears' },
  sailormoonCrown: { colour: 'f4e26a', kind: 'headband' },
};

function identity(r, reserved) {
  const top = r.pick(reserved(HAIR));
  const skin = r.pick(LIGHT_SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick(CLOTHES);
  const hasAccessory = r.chance(0.25);
  const accessory = r.pick(['catEars', 'glasses', 'glasses', 'sailormoonCrown']);
  return {
    options: {
      hair: [top],
      hairColor: [hair],
      skinColor: [skin],
      accessories: [accessory],
      accessoriesProbability: percent(hasAccessory),
    },
    skin,
    hair: { colour: hair, kind: kindOf(top, HAIR_KINDS) },
    wears: hasAccessory ? [ACCESSORIES[accessory]] : [],
    clothes: shirt(cloth),
  };
}

const OPEN_LAUGHS = 'openedSmile gapSmile';
const ANGRY_MOUTHS = 'openSad +frown +gritArch +shout';
const TEARS = { marks: ['tears'] };
const looks = {
  neutral: {
    plain: [
      look('normal', '', 'unimpressed +flat +flatShort'),
      look('+tall +dot', '+relaxed +flat', 'unimpressed +flat +flatShort'),
    ],
  },
  amusement: {
    plain: [
      look('winking', '', `${OPEN_LAUGHS} braces teethSmile +tongueLaugh`, { weight: 2 }),
      look('sleepy', '', `${OPEN_LAUGHS} teethSmile`),
      look('+laugh +squeeze', '+relaxed +high', `${OPEN_LAUGHS} teethSmile +laugh +tongueLaugh`, { weight: 3 }),
    ],
  },
  anger: { plain: [look('angry', '', ANGRY_MOUTHS), look('+narrow +glare', '+angry', ANGRY_MOUTHS)] },
  awe: { plain: [look('+wide +lookUp +shiny', '+high', '+o +bigO +smallO')] },
  contentment: {
    plain: [
      look('sleepy', '', 'kawaii +smile +smallSmile'),
      look('+closed', '+relaxed', 'kawaii +smile +smallSmile'),
      look('normal', '', 'kawaii +smile', { weight: 0.7 }),
    ],
  },
  disgust: {
    plain: [
      look('confused angry +half', '', '+yuck +retch'),
      look('+narrow +half +squeeze', '+uneven +knit', '+yuck +retch'),
      look('+half +narrow', '+uneven', '+sneer', { marks: ['wrinkles'] }),
    ],
    sign: [look('confused sleepy', '', '+sick'), look('+narrow +half', '+uneven +knit', '+sick')],
  },
  excitement: {
    plain: [look('+wide +shiny', '+high', `${OPEN_LAUGHS} +bigLaugh`)],
    sign: [
      look('starstruck', '', `${OPEN_LAUGHS} teethSmile braces`),
      look('+star +heart', '+high', `${OPEN_LAUGHS} +bigLaugh`),
    ],
  },
  fear: { plain: [look('+tiny +wide', '+worried', 'awkwardSmile +wavy +tremble +gritBox')] },
  sadness: {
    plain: [
      look('sad', '', 'openSad +frown +smallFrown'),
      look('+droop +tall', '+worried', '+frown +smallFrown +openSad'),
    ],
    sign: [
      look('sad', '', 'openSad +frown +smallFrown', TEARS),
      look('+closed +droop', '+worried', 'openSad +frown', TEARS),
    ],
  },
};

const words = {
  eyes: {
    normal: 'open eyes',
    winking: 'one eye winking',
    sleepy: 'closed eyes',
    angry: 'lowered slanted brows',
    starstruck: 'star shaped eyes',
    confused: 'uneven knitted brows',
    sad: 'drooping eyes and worried brows',
  },
  mouth: {
    unimpressed: 'a straight mouth',
    openedSmile: 'a big laugh',
    gapSmile: 'a big laugh',
    braces: 'a big laugh with braces',
    teethSmile: 'a toothy grin',
    awkwardSmile: 'gritted teeth',
    openSad: 'an open downturned mouth',
    kawaii: 'a small smile',
  },
};

function draw(svg, parts, who) {
  const [base, fromMouth] = splitAt(svg, PART);
  const [ownMouth, fromEyes] = splitAt(fromMouth, PART);
  const [ownEyes, above] = splitAt(fromEyes, HAIR_GROUP);
  const own = { eyes: PART + ownEyes, mouth: PART + ownMouth };
  const { eyes, eyebrows, mouth, marks } = expressionLayers(parts, { face, head }, own);
  const body = shoulders({ cx: 215, top: 432, half: 150 }, who);
  return `${body}${base}${mouth}${eyes}${eyebrows}${marks}${HAIR_GROUP}${above}`;
}

export default {
  design,
  head,
  view: 480,
  region: [212, 150, 424, 410],
  identity,
  looks,
  words,
  options: parts => ({ eyes: ownOr(parts.eyes, 'normal'), mouth: ownOr(parts.mouth, 'unimpressed') }),
  draw,
};
