// Places with a wall behind. Each takes a random stream and gives { svg, words }.
import { CANVAS, disc, gradient, hsl, hueName, rect } from './shapes.mjs';

export function plain(r) {
  const hue = r.between(0, 360);
  const isGrey = r.chance(0.15);
  const saturation = isGrey ? 4 : r.between(25, 75);
  const lightness = r.between(45, 88);
  const to = hsl(hue + r.between(-25, 25), saturation * 0.9, lightness + r.between(-18, 10));
  const svg = gradient(r, hsl(hue, saturation, lightness), to);
  if (isGrey) return { svg, words: 'in front of a grey wall' };
  const name = hueName(hue);
  const article = name === 'orange' ? 'an ' : 'a ';
  return { svg, words: `in front of ${lightness > 75 ? 'a pale ' : article}${name} wall` };
}

export function room(r) {
  const hue = r.between(0, 360);
  const [x, y] = [r.between(2, 80), r.between(6, 24)]; // of the window
  const floor = r.between(95, 112);
  let svg = rect(0, 0, CANVAS, CANVAS, hsl(hue, r.between(15, 50), r.between(62, 86)));
  svg += rect(x, y, 42, 46, hsl(200, 60, r.between(70, 88)), 'stroke="#fff" stroke-width="4"');
  svg += rect(x + 19.5, y, 3, 46, '#fff') + rect(x, y + 21, 42, 3, '#fff');
  if (r.chance(0.6)) {
    const pot = (x + 70) % 120;
    svg += rect(pot, floor - 16, 12, 16, '#b5673e') + disc(pot + 6, floor - 24, 11, hsl(125, 40, 38));
  }
  svg += rect(0, floor, CANVAS, 40, hsl(28, 35, r.between(32, 52)));
  return { svg, words: 'in a room with a window' };
}

export function library(r) {
  let svg = rect(0, 0, CANVAS, CANVAS, hsl(28, 35, r.between(22, 34)));
  for (let row = 0; row < 4; row++) {
    let x = r.between(-6, 2);
    const board = 30 + row * 32;
    while (x < CANVAS) {
      const width = r.between(4, 10);
      const height = r.between(17, 26);
      svg += rect(x, board - height, width, height, hsl(r.between(0, 360), r.between(25, 60), r.between(35, 68)));
      x += width + 0.8;
    }
    svg += rect(0, board, CANVAS, 4, hsl(28, 40, 42));
  }
  return { svg, words: 'in front of a bookshelf' };
}

export function kitchen(r) {
  const hue = r.between(0, 360);
  const tile = r.pick([12, 16, 20]);
  let svg = rect(0, 0, CANVAS, CANVAS, hsl(hue, 25, 90));
  for (let x = 0; x < CANVAS; x += tile) {
    for (let y = 0; y < CANVAS; y += tile) {
      if (((x + y) / tile) % 2) svg += rect(x, y, tile, tile, hsl(hue, r.between(25, 50), r.between(68, 80)));
    }
  }
  svg += rect(0, 100, CANVAS, 6, '#6b4a33') + rect(0, 106, CANVAS, 30, hsl(hue + 150, 20, 60));
  return { svg, words: 'in a tiled kitchen' };
}

export function curtain(r) {
  const hue = r.between(0, 360);
  const stripes = r.pick([6, 8, 11]);
  let svg = '';
  for (let i = 0; i < stripes; i++) {
    const fill = hsl(hue, r.between(40, 65), i % 2 ? 42 : 55);
    svg += rect((i * CANVAS) / stripes, 0, CANVAS / stripes + 1, CANVAS, fill);
  }
  return { svg, words: `in front of a striped ${hueName(hue)} curtain` };
}
