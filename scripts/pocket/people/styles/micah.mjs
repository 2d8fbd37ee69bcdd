// Avatar Illustration System ("Micah") by Micah Lanier (CC BY 4.0): the unseen style.
// Adapted: further eyes, brows and mouths; tears.
import * as design from '@dicebear/micah';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { isDrawn } from '../features/index.mjs';
import { jittered, ownOr, splitAt } from './layers.mjs';
import { micahFeature, micahMarks } from './micah_features.mjs';
import { list, look } from './recipes.mjs';
import { kindOf, percent, shirt } from './wardrobe.mjs';

const MOUTH = '<g transform="translate(170 183)">';
const BROWS = '<g transform="translate(110 102)">';
const HAIR_GROUP = '<g transform="translate(49 11)">';
const EYES = '<g transform="translate(142 119)">';
const ROUND_EYES = /<g fill="[^"]*"><ellipse cx="16.12"[\s\S]*?<\/g>/; // within the eye group, beside the glasses

const head = { cx: 181, top: 42, chin: 267 };
const MOUTH_PIVOT = [205, 212];
const BROW_PIVOT = [186, 116];

const HAIR = list('fonze mrT dougFunny mrClean dannyPhantom full full turban pixie pixie'); // long hair twice
const HAIR_KINDS = [
  [/mrT/, 'mohawk'],
  [/doug/, 'thin hair'],
  [/full|pixie/, 'long hair'],
  [/./, 'short hair'],
];
const MAY_WEAR_SCRUFF = /fonze|mr|doug|danny/;

function hairOf(top, colour) {
  if (top === 'turban') return null;
  return top === 'mrClean' ? { kind: 'bald head' } : { colour, kind: kindOf(top, HAIR_KINDS) };
}

function identity(r) {
  const top = r.pick(HAIR);
  const skin = r.pick(SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick(CLOTHES);
  const collar = r.pick(['open', 'crew', 'collared']);
  const hasGlasses = r.chance(0.16);
  const frame = r.pick(['1a1a1a', '5199e4', 'ff488e', '6d4bb0', 'e6e6e6']);
  const hasEarring = r.chance(0.25);
  const hasScruff = r.chance(0.08) && MAY_WEAR_SCRUFF.test(top);
  return {
    options: {
      hair: [top],
      hairProbability: 100,
      hairColor: [hair],
      baseColor: [skin],
      shirt: [collar],
      shirtColor: [cloth],
      glasses: [r.pick(['round', 'square'])],
      glassesColor: [frame],
      glassesProbability: percent(hasGlasses),
      earrings: [r.pick(['hoop', 'stud'])],
      earringColor: [r.pick(['f4d150', 'ffffff', '6bd9e9'])],
      earringsProbability: percent(hasEarring),
      ears: [r.pick(['attached', 'detached'])],
      nose: [r.pick(['curve', 'pointed', 'tound'])],
      facialHair: ['scruff'],
      facialHairProbability: percent(hasScruff),
      eyesColor: ['000000'],
      eyebrowsColor: ['000000'],
      mouthColor: ['000000'],
      facialHairColor: ['000000'],
      eyeShadowColor: ['d2eff3'],
    },
    hair: hairOf(top, hair),
    wears: [
      top === 'turban' && { colour: hair, kind: 'turban' },
      hasGlasses && { colour: frame, kind: 'glasses' },
      hasEarring && { kind: 'an earring' },
    ].filter(Boolean),
    clothes: shirt(cloth),
  };
}

const looks = {
  neutral: { plain: [look('eyes round', 'up', '+flat')] },
  amusement: {
    plain: [
      look('smiling +squeeze', 'up +high', 'laughing +laughTongue', { weight: 2 }),
      look('+wink', 'up +high', 'laughing +laughTongue'),
    ],
  },
  anger: { plain: [look('eyes round +narrow', '+angry', 'nervous +shout frown')] },
  awe: { plain: [look('+wide +lookUp', '+high', 'surprised +o')] },
  contentment: {
    plain: [look('+closed', 'up', 'smile smirk +softSmile', { weight: 2 }), look('eyes', 'up', 'smile +softSmile')],
  },
  disgust: {
    plain: [
      look('+narrow +half +squeeze', '+angry +uneven', '+yuck'),
      look('+half +narrow', '+uneven', '+sneer', { marks: ['wrinkles'] }),
    ],
    sign: [look('+narrow +half +squeeze', '+angry +uneven', '+sick')],
  },
  excitement: {
    plain: [look('+wide', '+high', 'laughing +laughBig')],
    sign: [look('+stars +hearts', '+high up', 'laughing +laughBig')],
  },
  fear: { plain: [look('+tiny', 'down', 'nervous +wavy +tremble')] },
  sadness: {
    plain: [look('+droop eyes', 'down', 'sad frown +openSad')],
    sign: [look('eyes +closed +droop', 'down', 'sad frown +openSad', { marks: ['tears'] })],
  },
};

const words = {
  eyes: {
    eyes: 'open eyes',
    round: 'open eyes',
    smiling: 'laughing curved eyes',
    '+wink': 'one eye winking',
    '+narrow': 'narrowed eyes',
    '+half': 'half closed eyes',
    '+droop': 'drooping eyes',
    '+squeeze': 'squeezed eyes',
    '+wide': 'wide round eyes',
    '+lookUp': 'wide eyes looking up',
    '+closed': 'closed eyes',
    '+stars': 'star shaped eyes',
    '+hearts': 'heart shaped eyes',
    '+tiny': 'staring eyes with tiny pupils',
  },
  eyebrows: {
    up: 'relaxed brows',
    down: 'worried brows',
    '+high': 'raised brows',
    '+angry': 'lowered slanted brows',
    '+uneven': 'one raised brow',
  },
  mouth: {
    '+flat': 'a straight mouth',
    laughing: 'a big laugh',
    '+laughBig': 'a big laugh',
    '+laughTongue': 'a laugh with the tongue out',
    frown: 'a downturned mouth',
    sad: 'a downturned mouth',
    '+openSad': 'an open downturned mouth',
    nervous: 'gritted teeth',
    '+shout': 'a shouting mouth',
    surprised: 'a round open mouth',
    '+o': 'a small round open mouth',
    smile: 'a smile',
    '+softSmile': 'a smile',
    smirk: 'a small smile',
    '+sick': 'a sick green mouth',
    '+yuck': 'a tongue sticking out under a downturned mouth',
    '+sneer': 'a crooked sneer',
    '+wavy': 'a wavy mouth',
    '+tremble': 'a trembling open mouth',
  },
};

function draw(svg, parts) {
  const [base, fromMouth] = splitAt(svg, MOUTH);
  const [ownMouth, fromBrows] = splitAt(fromMouth, BROWS);
  const [ownBrows, fromHair] = splitAt(fromBrows, HAIR_GROUP);
  const [hair, fromEyes] = splitAt(fromHair, EYES);
  const feature = (kind, own) => (isDrawn(parts[kind]) ? micahFeature(kind, parts[kind]) : own);
  const mouth = jittered(feature('mouth', MOUTH + ownMouth), parts.jitter.mouth, MOUTH_PIVOT, head);
  const brows = jittered(feature('eyebrows', BROWS + ownBrows), parts.jitter.eyebrows, BROW_PIVOT, head);
  const above = isDrawn(parts.eyes) ? fromEyes.replace(ROUND_EYES, micahFeature('eyes', parts.eyes)) : fromEyes;
  return `${base}${mouth}${brows}${micahMarks(parts.marks)}${HAIR_GROUP}${hair}${EYES}${above}`;
}

export default {
  design,
  head,
  view: 360,
  bodyEnds: true,
  region: [120, 88, 250, 268],
  identity,
  looks,
  words,
  options: parts => ({
    eyes: ownOr(parts.eyes, 'round'),
    eyebrows: ownOr(parts.eyebrows, 'up'),
    mouth: ownOr(parts.mouth, 'smile'),
  }),
  draw,
};
