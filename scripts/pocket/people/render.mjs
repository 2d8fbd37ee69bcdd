#!/usr/bin/env node
// Renders one split of persons with a known expression. pack.py makes Parquet of it.
import { parseArgs } from 'node:util';
import { SPLITS } from './plan.mjs';
import { PhotoBank } from './scenery/photos.mjs';
import { renderSplit } from './workers.mjs';

const HELP = `Usage: node render.mjs --photos FOLDER [options]

Draws persons with a known expression: OUT/SPLIT.jsonl, one record a picture, and
OUT/SPLIT.png.bin, the pictures' PNGs one after another (offset and length are in the records).

  --photos FOLDER     the CC0 photographs plasma_NAME.png that persons stand in front of
  --split NAME        ${SPLITS.join(', ')} (default: train)
  --persons N         how many persons (default: 20); a shorter run is a longer one's beginning
  --out FOLDER        where to (default: people)
  --seed TEXT         another seed, other persons (default: 1)
  --size PIXELS       a picture's side (default: 96)
  --per-person N      expressions of a person in the splits train and judge (default: 3)
  --drawings N        most drawings of an emotion in the other splits (default: 3)
  --workers N         processes (default: 1); the files' bytes do not depend on it

Example: node render.mjs --photos photos --split test --persons 200 --out raw`;

const OPTIONS = {
  photos: { type: 'string' },
  split: { type: 'string', default: 'train' },
  persons: { type: 'string', default: '20' },
  out: { type: 'string', default: 'people' },
  seed: { type: 'string', default: '1' },
  size: { type: 'string', default: '96' },
  'per-person': { type: 'string', default: '3' },
  drawings: { type: 'string', default: '3' },
  workers: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h' },
};

function positive(values, name) {
  const number = Number(values[name]);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name}: ${values[name]} is no number from 1 on`);
  return number;
}

function argumentsOf(values) {
  if (!SPLITS.includes(values.split)) throw new Error(`--split: ${values.split} is none of ${SPLITS.join(', ')}`);
  if (!values.photos) throw new Error('--photos: name the folder of the photographs (see --help)');
  const [missing] = new PhotoBank(values.photos).missing();
  if (missing) throw new Error(`--photos: ${missing} is not there`);
  return {
    out: values.out,
    split: values.split,
    photos: values.photos,
    seed: values.seed,
    persons: positive(values, 'persons'),
    size: positive(values, 'size'),
    perPerson: positive(values, 'per-person'),
    drawings: positive(values, 'drawings'),
    workers: positive(values, 'workers'),
  };
}

/** The settled arguments; null when help was asked for. Ends with exit code 2 where they are wrong. */
function readArguments() {
  try {
    const { values } = parseArgs({ options: OPTIONS });
    return values.help ? null : argumentsOf(values);
  } catch (error) {
    console.error(error.message);
    return process.exit(2);
  }
}

const args = readArguments();
if (!args) {
  console.log(HELP);
} else {
  const count = await renderSplit(args);
  console.log(`${count} pictures of ${args.persons} persons: ${args.out}/${args.split}.jsonl`);
}
