// A person with an expression, as SVG and as pixels.
import { createAvatar } from '@dicebear/core';
import { Resvg } from '@resvg/resvg-js';
import { CANVAS } from './scenery/shapes.mjs';
import { STYLES } from './styles/index.mjs';

/** What DiceBear draws, without its frame: bodies may leave it, and metadata would only cost time. */
function avatarSvg(who, parts) {
  const { design, options } = STYLES[who.style];
  const chosen = Object.entries(options(parts)).map(([part, name]) => [part, [name]]);
  const svg = createAvatar(design, { seed: who.subject, ...who.options, ...Object.fromEntries(chosen) }).toString();
  return svg
    .replace(/^<svg[^>]*>/, '')
    .replace(/<\/svg>\s*$/, '')
    .replace(/<metadata[\s\S]*?<\/metadata>/, '')
    .replace(/<mask id="viewboxMask">[\s\S]*?<\/mask>/, '')
    .replace('<g mask="url(#viewboxMask)">', '')
    .replace(/<\/g>\s*$/, '');
}

function placement({ scale: k, mirror, cx, top }, head) {
  const dy = (top - head.top * k).toFixed(3);
  return mirror
    ? `translate(${(cx + head.cx * k).toFixed(3)},${dy}) scale(${-k},${k})`
    : `translate(${(cx - head.cx * k).toFixed(3)},${dy}) scale(${k},${k})`;
}

function pictureSvg(who, parts, size) {
  const style = STYLES[who.style];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${size}" ` +
    `height="${size}" viewBox="0 0 ${CANVAS} ${CANVAS}">${who.place.svg}` +
    `<g transform="${placement(who, style.head)}" fill="none">` +
    `${style.draw(avatarSvg(who, parts), parts, who)}</g></svg>`
  );
}

/** The picture, `size` pixels square: `.pixels` is RGBA, `.asPng()` a file's bytes. */
export const drawPicture = (who, parts, size) =>
  new Resvg(pictureSvg(who, parts, size), { font: { loadSystemFonts: false } }).render();

/** The box [left, top, right, bottom] in pixels, right and bottom excluded, outside which no expression changes it. */
export function expressionBox(who, size) {
  const {
    head,
    region: [left, top, right, bottom],
  } = STYLES[who.style];
  const toX = x => who.cx + (who.mirror ? -1 : 1) * (x - head.cx) * who.scale;
  const toY = y => who.top + (y - head.top) * who.scale;
  const [x0, x1] = [toX(left), toX(right)].sort((a, b) => a - b);
  const pixels = size / CANVAS;
  const low = v => Math.min(size, Math.max(0, Math.floor(v * pixels)));
  const high = v => Math.min(size, Math.max(0, Math.ceil(v * pixels)));
  return [low(x0), low(toY(top)), high(x1), high(toY(bottom))];
}
