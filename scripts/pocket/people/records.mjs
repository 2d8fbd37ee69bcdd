// The pictures of a person, each with its record.
import { captionOf, looksText } from './captions.mjs';
import { drawingsOf, partNames } from './expression.mjs';
import { makePerson } from './person.mjs';
import { drawPicture, expressionBox } from './picture.mjs';
import { RandomStream } from './random.mjs';

// How often a caption says the emotion's word: the UNet's at most one of ten, CLIP's at most three of ten. So a feeling
// is something that a token must learn, as on real photos, and a word alone does little.
const SAYS_EMOTION = { caption: 0.09, caption_clip: 0.29 };

function captionFor(field, who, parts, { emotion, drawing }) {
  const r = new RandomStream(`${field}/${who.subject}/${emotion}/${drawing}`);
  return captionOf(who, parts, emotion, r.chance(SAYS_EMOTION[field]), r);
}

/**
 * The record of one picture:
 *
 * subject       the person, over all its pictures; style, split, emotion
 * drawing       the number of this drawing of the expression among the person's `alternatives`
 * sign          whether it has tears, stars, hearts or a green mouth
 * parts         the names of the drawn parts
 * caption       for the UNet; caption_clip: for CLIP, which hears the emotion's word more often
 * looks         the clause of the expression alone; place: the background's name
 * face          [left, top, right, bottom] in pixels: nothing outside changes with the expression
 */
function recordOf(who, parts, { split, emotion, drawing, alternatives, size }) {
  return {
    subject: who.subject,
    style: who.style,
    split,
    emotion,
    drawing,
    alternatives,
    sign: parts.hasSign,
    parts: partNames(parts),
    caption: captionFor('caption', who, parts, { emotion, drawing }),
    caption_clip: captionFor('caption_clip', who, parts, { emotion, drawing }),
    looks: looksText(who.style, parts),
    place: who.place.place,
    face: expressionBox(who, size),
    size,
  };
}

/** All pictures of a planned person (plan.mjs): { record, who, parts }. Nothing is drawn yet. */
export function* describe(job, { size, photos }) {
  const who = makePerson(job, photos);
  for (const { expression, most } of job.expressions) {
    const drawings = drawingsOf(who, expression, most);
    for (const [drawing, parts] of drawings.entries()) {
      const at = { split: job.split, emotion: expression, drawing, alternatives: drawings.length, size };
      yield { record: recordOf(who, parts, at), who, parts };
    }
  }
}

/** The same with the drawn pictures: { record, png }. */
export function* picturesOf(job, { size, photos }) {
  for (const { record, who, parts } of describe(job, { size, photos })) {
    yield { record, png: drawPicture(who, parts, size).asPng() };
  }
}
