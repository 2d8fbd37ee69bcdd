// Recipes: which eyes, brows and mouths together show an expression. A style has a table of them: for each expression
// the plain ones and, where it has any, those with a sign (tears, stars, hearts, a green mouth).

export const list = text => text.trim().split(/\s+/).filter(Boolean);

/** Any of the eyes with any of the brows and any of the mouths. Names that start with '+' are drawn in features/. */
export const look = (eyes, eyebrows, mouth, { weight = 1, marks = [] } = {}) => ({
  eyes: list(eyes),
  eyebrows: list(eyebrows),
  mouth: list(mouth),
  weight,
  marks,
});

/** Any of a style's whole faces. */
export const wholeFace = (names, { weight = 1, marks = [] } = {}) => ({ face: list(names), weight, marks });

const TEARS = ['tears'];
const WRINKLES = ['wrinkles'];
const LAUGHS = '+laugh +grin +tongueLaugh';
const BIG_LAUGHS = '+bigLaugh +laugh +grin';
const SAD_MOUTHS = '+frown +smallFrown +openSad';
const DISGUSTED_EYES = '+narrow +half +squeeze';

/** Expressions made wholly of features drawn here. */
export const DRAWN_LOOKS = {
  neutral: { plain: [look('+tall +dot', '+relaxed +flat', '+flat +flatShort +flatTilt')] },
  amusement: {
    plain: [
      look('+laugh +squeeze', '+relaxed +high', LAUGHS, { weight: 2 }),
      look('+wink', '+relaxed +cocked', LAUGHS),
    ],
  },
  anger: { plain: [look('+narrow +glare +dot', '+angry', '+frown +shout +gritArch +openSad')] },
  awe: { plain: [look('+lookUp +shiny +wide', '+high', '+o +smallO +bigO')] },
  contentment: {
    plain: [
      look('+closed', '+relaxed', '+smile +smallSmile +cheekSmile', { weight: 2 }),
      look('+tall +dot', '+relaxed', '+smile +cheekSmile'),
    ],
  },
  disgust: {
    plain: [
      look(DISGUSTED_EYES, '+uneven +knit', '+yuck +retch', { weight: 2 }),
      look(DISGUSTED_EYES, '+uneven', '+sneer', { marks: WRINKLES }),
    ],
    sign: [look(DISGUSTED_EYES, '+uneven +knit', '+sick')],
  },
  excitement: {
    plain: [look('+wide +shiny', '+high', BIG_LAUGHS)],
    sign: [look('+star +heart', '+high +relaxed', BIG_LAUGHS)],
  },
  fear: { plain: [look('+tiny +wide', '+worried', '+wavy +gritBox +tremble')] },
  sadness: {
    plain: [look('+droop +tall', '+worried', SAD_MOUTHS)],
    sign: [look('+droop +closed +tall', '+worried', SAD_MOUTHS, { marks: TEARS })],
  },
};

/** The table with a style's own recipes added. */
export function withLooks(table, own) {
  const join = (expression, kind) => [...(table[expression]?.[kind] ?? []), ...(own[expression]?.[kind] ?? [])];
  const expressions = Object.keys({ ...table, ...own });
  return Object.fromEntries(expressions.map(e => [e, { plain: join(e, 'plain'), sign: join(e, 'sign') }]));
}
