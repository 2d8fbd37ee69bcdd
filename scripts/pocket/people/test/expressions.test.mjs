// Faces: what an expression may change, and that every one is drawn and described.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { looksText } from '../captions.mjs';
import { EMOTIONS, EXPRESSIONS } from '../emotions.mjs';
import { drawingsOf } from '../expression.mjs';
import { makePerson } from '../person.mjs';
import { drawPicture, expressionBox } from '../picture.mjs';
import { PhotoBank } from '../scenery/photos.mjs';
import { STYLES, canShow, stylesOf } from '../styles/index.mjs';
import { photoFolder } from './photos.mjs';

const SIZE = 96;
const ALL_STYLES = Object.keys(STYLES);
const splitOf = style => (stylesOf('unseen').includes(style) ? 'unseen' : 'test');
const person = (style, index, photos) => makePerson({ style, split: splitOf(style), seed: 'faces', index }, photos);

function changedPixels(a, b) {
  const changed = [];
  for (let i = 0; i < a.length; i += 4) {
    if (a[i] !== b[i] || a[i + 1] !== b[i + 1] || a[i + 2] !== b[i + 2]) changed.push(i / 4);
  }
  return changed;
}

for (const style of ALL_STYLES) {
  test(`${style}: an expression changes the picture, and nothing outside its box`, t => {
    const photos = new PhotoBank(photoFolder(t));
    for (let index = 0; index < 4; index++) {
      const who = person(style, index, photos);
      const [left, top, right, bottom] = expressionBox(who, SIZE);
      const [neutral] = drawingsOf(who, 'neutral', 1);
      const calm = drawPicture(who, neutral, SIZE).pixels;
      for (const emotion of EMOTIONS.filter(e => canShow(style, e))) {
        for (const parts of drawingsOf(who, emotion, 3)) {
          const changed = changedPixels(calm, drawPicture(who, parts, SIZE).pixels);
          const told = `${emotion} ${JSON.stringify(parts)}`;
          assert.ok(changed.length >= 20, `${told}: only ${changed.length} pixels changed`);
          const isOutside = ([x, y]) => x < left || x >= right || y < top || y >= bottom;
          const outside = changed.map(i => [i % SIZE, Math.floor(i / SIZE)]).filter(isOutside);
          assert.deepEqual(outside, [], told);
        }
      }
    }
  });

  test(`${style}: every part of every recipe is drawn and has words`, t => {
    const who = person(style, 0, new PhotoBank(photoFolder(t)));
    const jitter = { eyebrows: { size: 1, lift: 0 }, mouth: { size: 1, lift: 0 } };
    for (const { plain, sign = [] } of Object.values(STYLES[style].looks)) {
      for (const recipe of [...plain, ...sign]) {
        const first = { marks: recipe.marks, jitter };
        for (const kind of ['face', 'eyes', 'eyebrows', 'mouth'])
          if (recipe[kind]?.length) first[kind] = recipe[kind][0];
        for (const kind of ['face', 'eyes', 'eyebrows', 'mouth']) {
          for (const name of recipe[kind] ?? []) {
            const parts = { ...first, [kind]: name };
            assert.ok(drawPicture(who, parts, 16).pixels.length);
            const named = ['face', 'eyes', 'eyebrows', 'mouth'].filter(k => parts[k]).length;
            const said = looksText(style, parts).split(/, | and /).length;
            assert.ok(said >= named + recipe.marks.length, `${kind} ${name} has no words: ${looksText(style, parts)}`);
          }
        }
      }
    }
  });
}

test('every style shows every expression by several drawings', () => {
  for (const style of ALL_STYLES) {
    for (const expression of EXPRESSIONS) {
      const names = new Set();
      for (let index = 0; index < 60; index++) {
        const [parts] = drawingsOf({ style, subject: `several-${index}` }, expression, 1);
        names.add(JSON.stringify([parts.face, parts.eyes, parts.eyebrows, parts.mouth, parts.marks]));
      }
      const least = style === 'micah' ? 2 : 5; // few drawings vary by size and height
      assert.ok(names.size >= least, `${style} ${expression}: ${names.size}`);
    }
  }
});

test('signs go with at most half of the faces, and alternatives differ', () => {
  for (const style of ALL_STYLES) {
    for (const emotion of ['sadness', 'excitement', 'disgust']) {
      let signs = 0;
      for (let index = 0; index < 600; index++) {
        const drawings = drawingsOf({ style, subject: `signs-${index}` }, emotion, 3);
        signs += drawings[0].hasSign ? 1 : 0;
        const names = drawings.map(
          ({ face, eyes, eyebrows, mouth, marks }) => `${[face, eyes, eyebrows, mouth, marks]}`,
        );
        assert.equal(new Set(names).size, names.length);
      }
      assert.ok(signs > 220 && signs <= 330, `${style} ${emotion}: ${signs} of 600`); // 282 expected, 4 deviations
    }
  }
});
