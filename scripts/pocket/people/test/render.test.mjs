// The program as users run it: its files' bytes depend on nothing but the arguments that name the pictures.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { renderSplit } from '../workers.mjs';
import { photoFolder } from './photos.mjs';

const RENDER = fileURLToPath(new URL('../render.mjs', import.meta.url));
const render = (...args) => spawnSync(process.execPath, [RENDER, ...args.map(String)], { encoding: 'utf8' });

function rendered(photos, split, persons, more = []) {
  const out = fs.mkdtempSync(path.join(photos, 'out-'));
  const { status, stderr } = render('--photos', photos, '--split', split, '--persons', persons, '--out', out, ...more);
  assert.equal(status, 0, stderr);
  assert.deepEqual(fs.readdirSync(out).sort(), [`${split}.jsonl`, `${split}.png.bin`]);
  return {
    lines: fs.readFileSync(path.join(out, `${split}.jsonl`), 'utf8'),
    pngs: fs.readFileSync(path.join(out, `${split}.png.bin`)),
  };
}

test('two runs, and any number of workers, give the same bytes', t => {
  const photos = photoFolder(t);
  const one = rendered(photos, 'train', 12);
  assert.deepEqual(rendered(photos, 'train', 12), one);
  assert.deepEqual(rendered(photos, 'train', 12, ['--workers', 3]), one);
});

test('a shorter run is the beginning of a longer one', t => {
  const photos = photoFolder(t);
  for (const split of ['train', 'test', 'judge']) {
    const [short, long] = [rendered(photos, split, 2), rendered(photos, split, 4)];
    assert.ok(long.lines.startsWith(short.lines), split);
    assert.ok(long.pngs.subarray(0, short.pngs.length).equals(short.pngs), split);
  }
});

test('offsets and lengths cut the pack into PNGs', t => {
  const { lines, pngs } = rendered(photoFolder(t), 'train', 3);
  let end = 0;
  for (const { offset, length, size } of lines.trim().split('\n').map(JSON.parse)) {
    assert.equal(offset, end);
    const png = pngs.subarray(offset, offset + length);
    assert.equal(png.subarray(1, 4).toString(), 'PNG');
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [size, size]);
    end = offset + length;
  }
  assert.equal(end, pngs.length);
});

test('another seed gives other persons', t => {
  const photos = photoFolder(t);
  assert.notDeepEqual(rendered(photos, 'train', 2, ['--seed', 'other']).pngs, rendered(photos, 'train', 2).pngs);
});

test('wrong arguments end with exit code 2 and say what to do', t => {
  const photos = photoFolder(t);
  for (const [args, message] of [
    [[], /--photos: name the folder/],
    [['--photos', path.join(photos, 'nowhere')], /plasma_Astronaut\.png is not there/],
    [['--photos', photos, '--split', 'tset'], /--split: tset is none of train, validation/],
    [['--photos', photos, '--persons', '0'], /--persons: 0 is no number from 1 on/],
    [['--photos', photos, '--pesrons', '3'], /--pesrons/],
  ]) {
    const { status, stderr } = render(...args);
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, message);
  }
  assert.match(render('--help').stdout, /^Usage: node render\.mjs/);
});

test('a worker that fails ends the run, and no file looks finished', async t => {
  const out = photoFolder(t);
  const size = { persons: 40, size: 16, perPerson: 3, drawings: 3 };
  const args = { out, split: 'train', seed: '1', workers: 2, photos: path.join(out, 'nowhere'), ...size };
  await assert.rejects(renderSplit(args), /worker \d ended before its share was drawn/);
  assert.ok(!fs.existsSync(path.join(out, 'train.jsonl')) && !fs.existsSync(path.join(out, 'train.png.bin')));
});
