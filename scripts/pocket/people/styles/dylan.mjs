// Dylan! The Avatar Generator by Natalia Spivak (CC BY 4.0).
// Adapted: no backdrop; neck and shoulders; eyes, brows and mouths.
import * as design from '@dicebear/dylan';
import { CLOTHES, HAIRS, SKINS, hairFor } from '../colours.mjs';
import { faceGeometry } from '../features/index.mjs';
import { shoulders } from './body.mjs';
import { expressionLayers, ownOr } from './layers.mjs';
import { DRAWN_LOOKS, look, withLooks } from './recipes.mjs';
import { shirt } from './wardrobe.mjs';

const EYES_BEGIN = 'm18.3-1.9v4.54'; // one path draws the ears' folds and then the eyes

const head = { cx: 41, top: 9, chin: 67 };
const face = faceGeometry({
  left: [31.8, 38.2],
  right: [50.2, 37.9],
  eye: 4.6,
  brow: 8,
  browHalf: 4.6,
  mouth: [41.4, 52.2],
  half: 8,
  tilt: -1,
  pen: { line: 2, browLine: 2.2, cavity: '#4a1420' },
});

const HAIR_KINDS = {
  plain: 'short hair',
  wavy: 'wavy hair',
  shortCurls: 'curly hair',
  parting: 'short hair',
  spiky: 'spiky hair',
  roundBob: 'long hair',
  longCurls: 'curly hair',
  buns: 'hair in a bun',
  bangs: 'long hair',
  fluffy: 'long hair',
  flatTop: 'short hair',
};

function identity(r, reserved) {
  const top = r.pick(reserved(Object.keys(HAIR_KINDS)));
  const skin = r.pick(SKINS);
  const hair = hairFor(r.pick(HAIRS), skin);
  const cloth = r.pick(CLOTHES);
  return {
    options: {
      hair: [top],
      hairColor: [hair],
      skinColor: [skin],
      facialHairProbability: 0,
      backgroundColor: ['transparent'],
    },
    skin,
    hair: { colour: hair, kind: HAIR_KINDS[top] },
    wears: [],
    clothes: shirt(cloth),
  };
}

const looks = withLooks(DRAWN_LOOKS, {
  neutral: { plain: [look('own', '', 'neutral')] },
  contentment: { plain: [look('own', '', 'happy', { weight: 0.7 })] },
});

const words = {
  eyes: { own: 'open eyes' },
  mouth: { neutral: 'a straight mouth', happy: 'a smile' },
};

function withoutEyes(path) {
  const from = path.indexOf(EYES_BEGIN);
  if (from < 0) throw new Error('dylan draws its eyes otherwise: is another version of its package installed?');
  return path.slice(0, from) + path.slice(path.indexOf('"', from));
}

function draw(svg, parts, who) {
  const [skull, earsAndEyes, mood, ...hair] = svg.match(/<path[^>]*\/>/g); // the backdrop is a rectangle
  const { eyes, eyebrows, mouth, marks } = expressionLayers(parts, { face, head }, { eyes: '', mouth: mood });
  const ears = parts.eyes === 'own' ? earsAndEyes : withoutEyes(earsAndEyes);
  const body = shoulders({ cx: 41.5, top: 71, half: 20 }, who);
  return `${body}${skull}${ears}${mouth}${eyes}${hair.join('')}${eyebrows}${marks}`;
}

export default {
  design,
  head,
  view: 80,
  region: [20, 22, 62, 68],
  identity,
  looks,
  words,
  options: parts => ({ mood: ownOr(parts.mouth, 'neutral') }),
  draw,
};
