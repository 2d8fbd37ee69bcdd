// An avatar is a pile of SVG groups. A style takes them apart and piles them up again with the wanted expression.
import { browPivot, drawFeature, drawMarks, isDrawn } from '../features/index.mjs';

/** The SVG before and after the marker, which opens a group of the style. */
export function splitAt(svg, marker) {
  const at = svg.indexOf(marker);
  if (at < 0)
    throw new Error(`the style's drawing has no group ${marker}: is another version of its package installed?`);
  return [svg.slice(0, at), svg.slice(at + marker.length)];
}

const short = x => +x.toFixed(4);

/** A part made a little larger or smaller about a point, and lifted by a share of the head's height. */
export function jittered(svg, { size, lift }, [x, y], head) {
  const down = short(y + lift * (head.chin - head.top));
  const about = `translate(${short(x)} ${down}) scale(${short(size)}) translate(${short(-x)} ${short(-y)})`;
  return `<g transform="${about}">${svg}</g>`;
}

/**
 * The layers that show an expression: eyes, eyebrows, mouth and marks, as SVG.
 * `own` holds the style's drawings of them, for parts that are not drawn here.
 */
export function expressionLayers(parts, { face, head }, own = {}) {
  const draw = kind => (isDrawn(parts[kind]) ? drawFeature(kind, parts[kind], face) : own[kind]);
  return {
    eyes: draw('eyes'),
    eyebrows: parts.eyebrows ? jittered(draw('eyebrows'), parts.jitter.eyebrows, browPivot(face), head) : '',
    mouth: jittered(draw('mouth'), parts.jitter.mouth, face.mouth, head),
    marks: drawMarks(parts.marks, face),
  };
}

/** The style's own part, or one to take the place of a part that is drawn here. */
export const ownOr = (name, standIn) => (isDrawn(name) ? standIn : name);
