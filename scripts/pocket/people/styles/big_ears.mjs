// Face Generator ("Big Ears") by The Visual Team (CC BY 4.0).
// Adapted: neck and shoulders; further eyes, brows and mouths; tears. The style's own eyes include brows.
import * as design from '@dicebear/big-ears';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { faceGeometry } from '../features/index.mjs';
import { shoulders } from './body.mjs';
import { expressionLayers, ownOr, splitAt } from './layers.mjs';
import { DRAWN_LOOKS, look, withLooks } from './recipes.mjs';
import { percent, shirt } from './wardrobe.mjs';

const MOUTH = '<g transform="translate(199.5 333.4) scale(.71856)">';
const EAR = '<g transform="translate(280.7 235.4) scale(.71856)">';
const EYES = '<g transform="translate(114.8 215.5) scale(.71856)">';
const CHEEK = '<g transform="translate(127.7 288.7) scale(.71856)">';

const head = { cx: 219, top: 150, chin: 402, half: 0.5 };
const face = faceGeometry({
  left: [179, 285],
  right: [259, 285],
  eye: 19,
  brow: 29,
  browHalf: 21,
  mouth: [219, 349],
  half: 33,
  pen: { line: 7, cavity: '#5c1a26', tongue: '#e58b98' },
});

const twoDigits = n => String(n).padStart(2, '0');
const variant = n => `variant${n}`;
const HAIR_VARIANTS = 20;
const HAIR = [...Array(HAIR_VARIANTS).keys()].flatMap(i => [`long${twoDigits(i + 1)}`, `short${twoDigits(i + 1)}`]);

function identity(r, reserved) {
  const top = r.pick(reserved(HAIR));
  const skin = r.pick(SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick(CLOTHES);
  const hasCheeks = r.chance(0.25);
  const oneOf = count => [variant(twoDigits(1 + Math.floor(r.next() * count)))];
  return {
    options: {
      hair: [top],
      hairColor: [hair],
      skinColor: [skin],
      face: oneOf(10),
      ear: oneOf(8),
      nose: oneOf(12),
      frontHair: oneOf(12),
      sideburn: oneOf(7),
      cheek: oneOf(6),
      cheekProbability: percent(hasCheeks),
    },
    skin,
    hair: { colour: hair, kind: top.startsWith('long') ? 'long hair' : 'short hair' },
    wears: [],
    clothes: shirt(cloth),
  };
}

const OPEN_EYES = 'variant05 variant04 variant03 variant02';
const looks = withLooks(DRAWN_LOOKS, {
  neutral: { plain: [look(OPEN_EYES, '', '+flat +flatShort +flatTilt')] },
  anger: { plain: [look('variant01', '', '+frown +gritArch +shout', { weight: 0.3 })] },
  awe: { plain: [look('variant26 variant14', '', '+o +bigO', { weight: 0.5 })] },
  contentment: { plain: [look('variant05 variant04', '', 'variant0702 variant0703 +smile', { weight: 0.7 })] },
});

const words = {
  eyes: {
    variant01: 'narrowed eyes and slanted brows',
    variant02: 'open eyes',
    variant03: 'open eyes',
    variant04: 'open eyes',
    variant05: 'open eyes',
    variant14: 'wide eyes and raised brows',
    variant26: 'wide round eyes and raised brows',
  },
  mouth: { variant0702: 'a smile', variant0703: 'a curly smile' },
};

function draw(svg, parts, who) {
  const [base, fromMouth] = splitAt(svg, MOUTH);
  const [ownMouth, fromEar] = splitAt(fromMouth, EAR);
  const [ears, fromEyes] = splitAt(fromEar, EYES);
  const [ownEyes, above] = splitAt(fromEyes, CHEEK);
  const own = { eyes: EYES + ownEyes, mouth: MOUTH + ownMouth };
  const { eyes, eyebrows, mouth, marks } = expressionLayers(parts, { face, head }, own);
  const body = shoulders({ cx: 219, top: 425, half: 100 }, who);
  // eyes and brows above the hair, as comics do, so that a fringe does not hide them
  return `${body}${base}${mouth}${EAR}${ears}${CHEEK}${above}${eyes}${eyebrows}${marks}`;
}

export default {
  design,
  head,
  view: 440,
  smallest: 74,
  region: [140, 215, 298, 408],
  identity,
  looks,
  words,
  options: parts => ({ eyes: ownOr(parts.eyes, 'variant05'), mouth: ownOr(parts.mouth, 'variant0702') }),
  draw,
};
