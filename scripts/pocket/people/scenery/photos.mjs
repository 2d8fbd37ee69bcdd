// Photographs to stand in front of: CC0 pictures, crops of which are drawn behind persons.
import { Resvg } from '@resvg/resvg-js';
import fs from 'node:fs';
import path from 'node:path';
import { CANVAS } from './shapes.mjs';

const EVERYWHERE = {
  Astronaut: 'an astronaut',
  Books: 'old books',
  Brushes: 'paint brushes',
  Car: 'a racing car',
  Cat: 'a cat',
  Fish: 'orange fish',
  Pencils: 'coloured pencils',
  Sushi: 'sushi',
};
const TEST_ONLY = { Parrot: 'a parrot', Soccer: 'a football on grass' };
const WORDS = { ...EVERYWHERE, ...TEST_ONLY };
const HEIGHT = 200; // of the shrunk photograph, in canvas units and pixels: crops are of 0.68 to 1.25 times that

/** The photographs of a split: those of test persons stand behind nobody else. */
export const photosOf = split => Object.keys(split === 'test' || split === 'unseen' ? TEST_ONLY : EVERYWHERE);

/** The photographs `plasma_NAME.png` of a folder, shrunk when they are first asked for. */
export class PhotoBank {
  #folder;
  #shrunk = new Map();

  constructor(folder) {
    this.#folder = folder;
  }

  /** The photographs that the folder lacks. */
  missing() {
    return Object.keys(WORDS)
      .map(name => this.#fileOf(name))
      .filter(file => !fs.existsSync(file));
  }

  #fileOf(name) {
    return path.join(this.#folder, `plasma_${name}.png`);
  }

  #photo(name) {
    if (!this.#shrunk.has(name)) this.#shrunk.set(name, shrink(fs.readFileSync(this.#fileOf(name))));
    return this.#shrunk.get(name);
  }

  /** A place in front of a crop of one of the split's photographs. */
  place(r, split) {
    const name = r.pick(photosOf(split));
    const photo = this.#photo(name);
    const zoom = r.between(0.68, 1.25);
    const [width, height] = [photo.width * zoom, photo.height * zoom];
    const [x, y] = [-r.next() * (width - CANVAS), -r.next() * (height - CANVAS)];
    const flip = r.chance(0.5) ? `transform="translate(${CANVAS},0) scale(-1,1)"` : '';
    const image = `<image x="${x}" y="${y}" width="${width}" height="${height}" xlink:href="${photo.href}"/>`;
    return { svg: `<g ${flip}>${image}</g>`, words: `in front of a photograph of ${WORDS[name]}` };
  }
}

const dataUri = png => `data:image/png;base64,${png.toString('base64')}`;

function shrink(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)]; // of the IHDR chunk
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" ` +
    `height="${height}"><image width="${width}" height="${height}" xlink:href="${dataUri(png)}"/></svg>`;
  const small = new Resvg(svg, { fitTo: { mode: 'height', value: HEIGHT } }).render();
  return { width: small.width, height: small.height, href: dataUri(small.asPng()) };
}
