// Splits and captions, without drawing: who is in which split, and what captions say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EMOTIONS, EXPRESSIONS } from '../emotions.mjs';
import { SPLITS, planPersons } from '../plan.mjs';
import { describe } from '../records.mjs';
import { PhotoBank } from '../scenery/photos.mjs';
import { adjectivesOf, nounsOf } from '../wording.mjs';
import { photoFolder } from './photos.mjs';

function recordsOf(split, persons, photos) {
  const plan = planPersons({ split, persons, seed: '1', perPerson: 3, drawings: 3 });
  return plan.flatMap(job => [...describe(job, { size: 96, photos })]);
}

const saysWord = (text, words) => words.some(word => new RegExp(`\\b${word}\\b`).test(text));
const wordsOf = emotion => [...adjectivesOf(emotion), ...nounsOf(emotion)];
const ALL_WORDS = EXPRESSIONS.flatMap(wordsOf);

test('no person is in two splits, and each split has its styles and photographs', t => {
  const photos = new PhotoBank(photoFolder(t));
  const splitOfSubject = new Map();
  const splitOfLooks = new Map();
  for (const split of SPLITS) {
    for (const { record, who } of recordsOf(split, 150, photos)) {
      assert.equal(record.split, split);
      assert.equal(record.style === 'micah', split === 'unseen' || split === 'judge');
      assert.equal(splitOfSubject.get(record.subject) ?? split, split);
      splitOfSubject.set(record.subject, split);
      const looks = JSON.stringify([who.options, who.place, who.clothes, who.height]); // the person and the place
      assert.equal(splitOfLooks.get(looks) ?? split, split, `the same person under two names: ${record.subject}`);
      splitOfLooks.set(looks, split);
      const isTestPhoto = /parrot|football/.test(who.place.words);
      if (who.place.place === 'photo') assert.equal(isTestPhoto, split === 'test' || split === 'unseen');
    }
  }
});

test('hair that is kept for held-out persons is worn by no one else', t => {
  const photos = new PhotoBank(photoFolder(t));
  const hairOf = ({ record, who }) => `${record.style} ${who.options.hair ?? who.options.head}`;
  const trained = new Set(recordsOf('train', 1500, photos).map(hairOf));
  const heldOut = recordsOf('test', 200, photos).filter(picture => picture.record.emotion === 'neutral');
  const share = heldOut.filter(picture => !trained.has(hairOf(picture))).length / heldOut.length;
  assert.ok(share > 0.35 && share < 0.65, `${share} of the test persons wear hair that no training person has`);
});

test('training persons show three expressions each, all equally often', t => {
  const photos = new PhotoBank(photoFolder(t));
  const records = recordsOf('train', 900, photos).map(picture => picture.record);
  assert.equal(records.length, 2700);
  for (const expression of EXPRESSIONS) {
    const count = records.filter(record => record.emotion === expression).length;
    assert.ok(Math.abs(count - 300) <= 2, `${expression}: ${count}`);
  }
});

test('held-out persons show every expression, emotions by up to three drawings', t => {
  const photos = new PhotoBank(photoFolder(t));
  for (const split of ['validation', 'test', 'unseen']) {
    const records = recordsOf(split, 10, photos).map(picture => picture.record);
    for (const subject of new Set(records.map(record => record.subject))) {
      const own = records.filter(record => record.subject === subject);
      assert.deepEqual([...new Set(own.map(record => record.emotion))], EXPRESSIONS);
      assert.equal(own.filter(record => record.emotion === 'neutral').length, 1);
      for (const emotion of EMOTIONS) {
        const drawings = own.filter(record => record.emotion === emotion);
        assert.ok(drawings.length >= 2 && drawings.length <= 3);
        assert.deepEqual(
          drawings.map(record => record.drawing),
          [...drawings.keys()],
        );
        assert.ok(drawings.every(record => record.alternatives === drawings.length));
      }
    }
  }
});

test("captions say the emotion's word in at most one of ten, CLIP's in three of ten, and never another's", t => {
  const photos = new PhotoBank(photoFolder(t));
  const records = recordsOf('train', 2700, photos).map(picture => picture.record);
  for (const [field, least, most] of [
    ['caption', 0.075, 0.1],
    ['caption_clip', 0.26, 0.3],
  ]) {
    const saying = records.filter(record => saysWord(record[field], wordsOf(record.emotion)));
    const share = saying.length / records.length;
    assert.ok(share > least && share <= most, `${field}: ${share}`);
    assert.equal(records.filter(record => saysWord(record[field], ALL_WORDS)).length, saying.length, field);
  }
});

test('captions are short and long, and describe a face differently from picture to picture', t => {
  const photos = new PhotoBank(photoFolder(t));
  const records = recordsOf('train', 300, photos).map(picture => picture.record);
  const lengths = records.map(record => record.caption.split(' ').length).sort((a, b) => a - b);
  assert.ok(lengths[Math.floor(lengths.length * 0.05)] <= 15);
  assert.ok(lengths[Math.floor(lengths.length * 0.95)] >= 30);
  assert.ok(Math.max(...lengths) <= 50);
  assert.ok(records.every(record => !/undefined|null| {2}|, ,/.test(record.caption + record.looks)));
  assert.ok(records.filter(record => record.caption === record.caption_clip).length < records.length * 0.02);
});
