// A split's persons shared out over worker processes, and their pictures joined in the persons' order.
import { fork } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { planPersons } from './plan.mjs';
import { picturesOf } from './records.mjs';
import { PhotoBank } from './scenery/photos.mjs';

const partFile = ({ out, split }, worker) => `${out}/${split}.part${worker}`;

/** Draws every `workers`-th person into the worker's own file: [{ index, worker, pictures: [{ record, length }] }]. */
function drawShare(args, worker) {
  const photos = new PhotoBank(args.photos);
  const part = fs.openSync(partFile(args, worker), 'w');
  const share = planPersons(args)
    .filter(job => job.index % args.workers === worker)
    .map(job => {
      const pictures = [];
      for (const { record, png } of picturesOf(job, { size: args.size, photos })) {
        fs.writeSync(part, png);
        pictures.push({ record, length: png.length });
      }
      return { index: job.index, worker, pictures };
    });
  fs.closeSync(part);
  return share;
}

/** The same, drawn by a process of its own. */
function shareOf(args, worker) {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(args), String(worker)]);
    child.on('message', resolve);
    // comes after the message, or without one; what went wrong stands on the worker's stderr
    child.on('disconnect', () => reject(new Error(`worker ${worker} ended before its share was drawn`)));
  });
}

/** Writes OUT/SPLIT.png.bin and OUT/SPLIT.jsonl from the workers' files, each there whole or not at all. */
function join(args, shares) {
  const workers = [...Array(args.workers).keys()];
  const parts = workers.map(worker => ({ file: fs.openSync(partFile(args, worker), 'r'), at: 0 }));
  const finished = ['png.bin', 'jsonl'].map(kind => `${args.out}/${args.split}.${kind}`);
  const [pack, lines] = finished.map(file => fs.openSync(`${file}.unfinished`, 'w'));
  let [offset, count] = [0, 0];
  for (const { worker, pictures } of shares.sort((a, b) => a.index - b.index)) {
    for (const { record, length } of pictures) {
      const png = Buffer.alloc(length);
      fs.readSync(parts[worker].file, png, 0, length, parts[worker].at);
      parts[worker].at += length;
      fs.writeSync(pack, png);
      fs.writeSync(lines, `${JSON.stringify({ ...record, offset, length })}\n`);
      offset += length;
      count++;
    }
  }
  for (const file of [...parts.map(part => part.file), pack, lines]) fs.closeSync(file);
  for (const file of finished) fs.renameSync(`${file}.unfinished`, file);
  for (const worker of workers) fs.unlinkSync(partFile(args, worker));
  return count;
}

/** Renders a split; gives the number of pictures. The files' bytes do not depend on the number of workers. */
export async function renderSplit(args) {
  fs.mkdirSync(args.out, { recursive: true });
  const workers = [...Array(args.workers).keys()];
  const shares = args.workers === 1 ? [drawShare(args, 0)] : await Promise.all(workers.map(k => shareOf(args, k)));
  return join(args, shares.flat());
}

const isWorker = process.send && process.argv[1] === fileURLToPath(import.meta.url);
if (isWorker) {
  process.send(drawShare(JSON.parse(process.argv[2]), Number(process.argv[3])));
  process.disconnect();
}
