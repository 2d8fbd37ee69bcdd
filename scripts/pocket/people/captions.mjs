// Captions as people write them: they name what is visible, leave things out, and rarely say the emotion's word.
import { colourName } from './colours.mjs';
import { MARK_WORDS, featureWords, isDrawn } from './features/index.mjs';
import { STYLES } from './styles/index.mjs';
import { adjectivesOf, inARow, isPlural, nounsOf, reworded, withArticle } from './wording.mjs';

const MENTIONED = { face: 0.97, eyes: 0.8, eyebrows: 0.6, mouth: 0.9 }; // how often a caption speaks of a part
const OPENINGS = ['', '', 'a portrait of ', 'a drawing of ', 'a picture of ', 'an illustration of '];
const KINDS = ['person', 'person', 'cartoon person', 'character'];

/** 'short red hair', 'red hair in a bun', 'blue shirt' */
function coloured({ colour, kind }) {
  if (!colour) return kind;
  const name = colourName(colour, /hair|beard|mohawk|braids|dreadlocks/.test(kind));
  return /^\w+ hair$/.test(kind) ? kind.replace(' ', ` ${name} `) : `${name} ${kind}`;
}

function named(thing) {
  const text = coloured(thing);
  return isPlural(text) ? text : withArticle(text);
}

/** What each visible part does, in a fixed wording: { face } or { eyes, eyebrows, mouth }, and marks. */
function partPhrases(style, parts) {
  const { words } = STYLES[style];
  const marks = parts.marks.map(mark => MARK_WORDS[mark]);
  if (parts.face) return { face: words.face[parts.face], marks };
  const phrase = kind => {
    const name = parts[kind];
    if (!name) return undefined;
    return words[kind]?.[name] ?? (isDrawn(name) ? featureWords(kind, name) : undefined);
  };
  return { eyes: phrase('eyes'), eyebrows: phrase('eyebrows'), mouth: phrase('mouth'), marks };
}

/** All that the expression shows, in one clause. */
export function looksText(style, parts) {
  const { face, eyes, eyebrows, mouth, marks } = partPhrases(style, parts);
  return inARow([face, eyes, eyebrows, mouth, ...marks].filter(Boolean));
}

function mentionedLooks(style, parts, r) {
  const phrases = partPhrases(style, parts);
  const said = Object.keys(MENTIONED)
    .filter(kind => phrases[kind] && r.chance(MENTIONED[kind]))
    .map(kind => reworded(phrases[kind], r));
  for (const mark of phrases.marks) if (r.chance(0.85)) said.push(reworded(mark, r));
  return inARow(said);
}

/** How the emotion's word is said: before the noun ('an angry person') or in a clause of its own. */
function feelingOf(emotion, r) {
  const adjective = r.pick(adjectivesOf(emotion));
  const noun = r.pick(nounsOf(emotion));
  const form = r.next();
  if (form < 0.35) return { before: `${adjective} ` };
  if (form < 0.55) return { clause: `looking ${adjective}` };
  return { clause: form < 0.8 ? `showing ${noun}` : `a face of ${noun}` };
}

/** One caption of the picture from the caption's own stream; with the emotion's word if `saysEmotion`. */
export function captionOf(who, parts, emotion, saysEmotion, r) {
  const feeling = feelingOf(emotion, r);
  const { before = '', clause } = saysEmotion ? feeling : {};
  const kind = r.pick(KINDS);
  const opening = r.pick(OPENINGS) + withArticle(before + kind);
  const has = [who.hair, ...who.wears].filter(thing => thing && r.chance(0.8)).map(named);
  const isDressed = r.chance(0.65);
  const isPlaced = r.chance(0.75);
  const looks = mentionedLooks(who.style, parts, r);
  const dress = `wearing ${withArticle(coloured({ ...who.clothes, kind: r.pick(['shirt', 'shirt', 'top']) }))}`;
  const clauses = [looks, clause, isDressed && dress, isPlaced && who.place.words].filter(Boolean);
  if (looks && r.chance(0.25)) clauses.push(clauses.shift()); // the expression last
  return [has.length ? `${opening} with ${inARow(has)}` : opening, ...clauses].join(', ');
}
