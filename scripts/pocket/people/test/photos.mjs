// Stand-ins for the photographs: tests need pictures of those names, not those pictures.
import { Resvg } from '@resvg/resvg-js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const NAMES = ['Astronaut', 'Books', 'Brushes', 'Car', 'Cat', 'Fish', 'Parrot', 'Pencils', 'Soccer', 'Sushi'];

/** A folder with small pictures plasma_NAME.png, removed when the test ends. */
export function photoFolder(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'people-photos-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  NAMES.forEach((name, i) => {
    const [fill, dot] = [`hsl(${36 * i},60%,60%)`, `hsl(${36 * i + 180},60%,40%)`];
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="220"><rect width="300" height="220"
      fill="${fill}"/><circle cx="150" cy="110" r="70" fill="${dot}"/></svg>`;
    fs.writeFileSync(path.join(folder, `plasma_${name}.png`), new Resvg(svg).render().asPng());
  });
  return folder;
}
