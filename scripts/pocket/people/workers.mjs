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

function shareOf(args, worker) {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(args), String(worker)]);
    child.on('message', resolve);
    child.on('exit', code => code && reject(new Error(`worker ${worker} ended with exit code ${code}`)));
  });
}

/** Writes OUT/SPLIT.png.bin and OUT/SPLIT.jsonl from the workers' files, which it removes. */
function join(args, shares) {
  const workers = [...Array(args.workers).keys()];
  const parts = workers.map(worker => ({ file: fs.openSync(partFile(args, worker), 'r'), at: 0 }));
  const pack = fs.openSync(`${args.out}/${args.split}.png.bin`, 'w');
  const lines = fs.openSync(`${args.out}/${args.split}.jsonl`, 'w');
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
