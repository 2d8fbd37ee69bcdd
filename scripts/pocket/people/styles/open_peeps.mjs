// Open Peeps by Pablo Stanley (CC0 1.0). The style's part 'face' holds eyes, brows, nose and mouth; features drawn here
// replace all of it but the nose.
import * as design from '@dicebear/open-peeps';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { drawMarks, faceGeometry } from '../features/index.mjs';
import { expressionLayers, splitAt } from './layers.mjs';
import { DRAWN_LOOKS, list, wholeFace, withLooks } from './recipes.mjs';
import { BLACK, kindOf, percent, shirt } from './wardrobe.mjs';

const FACE = '<g transform="translate(315 248)">';
const FACIAL_HAIR = '<g transform="translate(279 400)">';
const NOSE = `<path d="M170.8 144.4c7.6 4.6 19 15.3 11 26.6-9.6 10-23.4-1.4-30.2-6.6-6.3-4-13.3 6.3-7.5 11
  49 36.3 69-29.8 30.5-36.4-4.2-.8-5.8 4-3.8 5.4Z" fill="#000"/>`;

const head = { cx: 385, top: 118, chin: 560 };
const face = faceGeometry({
  left: [94, 112],
  right: [206, 108],
  eye: 27,
  far: 0.92,
  brow: 52,
  browHalf: 32,
  mouth: [160, 228],
  half: 49,
  tilt: -3,
  bridge: 16,
  pen: { line: 10, browLine: 12 },
});

const HEADS = list(`
  afro bangs bangs2 bantuKnots bun bun2 buns cornrows cornrows2 dreads2 flatTop flatTopLong grayBun grayMedium grayShort
  hatBeanie hatHip hijab long longAfro longBangs longCurly medium1 medium2 medium3 mediumBangs mediumBangs2 mediumBangs3
  mohawk mohawk2 noHair1 noHair2 noHair3 pomp shaved1 shaved2 short1 short2 short3 short4 short5
  turban twists twists2`);
const HATS = { hatBeanie: 'beanie', hatHip: 'hat', hijab: 'hijab', turban: 'turban' };
const BLACK_HATS = ['hatHip', 'hijab'];
const HAIR_KINDS = [
  [/afro|Afro|Curly|twists|dreads/, 'curly hair'],
  [/buns|Bun|bun|Knots/, 'hair in a bun'],
  [/cornrows/, 'braids'],
  [/mohawk/, 'mohawk'],
  [/short|flatTop|gray|pomp|shaved|noHair3/, 'short hair'],
  [/./, 'long hair'],
];
const COLOURED_HAIR = /bangs$|gray|cornrows$|mediumBangs2|mohawk|noHair3|short4/; // all other hair is black
const MAY_WEAR_BEARD = /short|flatTop|noHair|shaved|pomp|twists/;

function hairOf(top, colour) {
  if (HATS[top]) return null;
  if (/noHair[12]/.test(top)) return { kind: 'bald head' };
  return { colour: COLOURED_HAIR.test(top) ? colour : BLACK, kind: kindOf(top, HAIR_KINDS) };
}

function identity(r, reserved) {
  const top = r.pick(reserved(HEADS));
  const skin = r.pick(SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick([...CLOTHES, 'e78276', 'ffcf77', 'fdea6b', '9ddadb']);
  const hasGlasses = r.chance(0.14);
  const glasses = r.pick(list('glasses glasses2 glasses3 glasses5'));
  const hasBeard = r.chance(0.05) && MAY_WEAR_BEARD.test(top);
  return {
    options: {
      head: [top],
      skinColor: [skin],
      headContrastColor: [hair],
      clothingColor: [cloth],
      accessories: [glasses],
      accessoriesProbability: percent(hasGlasses),
      facialHair: ['chin'],
      facialHairProbability: percent(hasBeard),
      maskProbability: 0,
    },
    hair: hairOf(top, hair),
    wears: [
      HATS[top] && { colour: BLACK_HATS.includes(top) ? BLACK : cloth, kind: HATS[top] },
      hasGlasses && { colour: BLACK, kind: 'glasses' },
      hasBeard && { colour: BLACK, kind: 'beard' },
    ].filter(Boolean),
    clothes: shirt(cloth),
  };
}

const looks = withLooks(DRAWN_LOOKS, {
  amusement: { plain: [wholeFace('smileLOL smileBig', { weight: 1.5 })] },
  anger: { plain: [wholeFace('veryAngry', { weight: 0.5 })] },
  contentment: { plain: [wholeFace('calm cute smile', { weight: 1.5 })] },
  excitement: {
    plain: [wholeFace('smileTeethGap', { weight: 0.5 })],
    sign: [wholeFace('lovingGrin1 lovingGrin2', { weight: 0.7 })],
  },
  fear: { plain: [wholeFace('fear hectic')] },
  sadness: {
    plain: [wholeFace('solemn', { weight: 0.7 })],
    sign: [wholeFace('tired solemn', { weight: 0.7, marks: ['tears'] })],
  },
});

const words = {
  face: {
    smileLOL: 'laughing eyes with tears of joy and an open laugh',
    smileBig: 'laughing eyes and a big grin',
    veryAngry: 'lowered slanted brows and a downturned mouth',
    calm: 'closed curved eyes and a smile',
    cute: 'closed eyes and a small smile',
    smile: 'open eyes, raised brows and a smile',
    lovingGrin1: 'heart shaped eyes and an open smile',
    lovingGrin2: 'heart shaped eyes and a big grin',
    smileTeethGap: 'open eyes, raised brows and a big grin',
    fear: 'wide round eyes, worried brows and a tense mouth',
    hectic: 'wide round eyes and gritted teeth',
    tired: 'heavy eyes, worried brows and a flat mouth',
    solemn: 'squeezed eyes, worried brows and a downturned mouth',
  },
};

function draw(svg, parts) {
  const [below, ownFace] = splitAt(svg, FACE);
  const [own, above] = splitAt(ownFace, FACIAL_HAIR);
  if (parts.face) return `${below}${FACE}${own}${FACE}${drawMarks(parts.marks, face)}</g>${FACIAL_HAIR}${above}`;
  const { eyes, eyebrows, mouth, marks } = expressionLayers(parts, { face, head });
  return `${below}${FACE}${NOSE}${eyes}${eyebrows}${mouth}${marks}</g>${FACIAL_HAIR}${above}`;
}

export default {
  design,
  head,
  view: 704,
  region: [340, 250, 600, 565],
  identity,
  looks,
  words,
  options: parts => ({ face: parts.face ?? 'smile' }),
  draw,
};
