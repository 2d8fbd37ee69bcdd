// Features drawn here, where a style's own drawings do not suffice. Their names start with '+'.
import { BROW_WORDS, drawBrows } from './brows.mjs';
import { EYE_WORDS, drawEyes } from './eyes.mjs';
import { MOUTH_WORDS, drawMouth } from './mouths.mjs';

export { browPivot, faceGeometry } from './face.mjs';
export { MARK_WORDS, drawMarks, tear } from './marks.mjs';

const FEATURES = {
  eyes: { draw: drawEyes, words: EYE_WORDS },
  eyebrows: { draw: drawBrows, words: BROW_WORDS },
  mouth: { draw: drawMouth, words: MOUTH_WORDS },
};
const bare = name => name.slice(1);

export const isDrawn = name => name.startsWith('+');
export const drawFeature = (kind, name, face) => FEATURES[kind].draw(bare(name), face);
export const featureWords = (kind, name) => FEATURES[kind].words[bare(name)];
