// Styles that end at the chin get a neck and a plain shirt.

/** cx: the middle; top: the collar; half: the shoulders' reach to a side; outline: a black line's width, or 0. */
export function shoulders({ cx, top, half, outline = 0 }, { skin, clothes }) {
  const edge = outline ? `stroke="#000" stroke-width="${outline}"` : '';
  const x = share => cx + half * share;
  const y = share => top + half * share;
  const neck = `M${x(-0.3)} ${y(-0.5)}V${y(0.24)}H${x(0.3)}V${y(-0.5)}Z`;
  const shirt =
    `M${x(-1.25)} ${y(4)}C${x(-1.25)} ${y(0.6)} ${x(-0.9)} ${y(0.1)} ${x(-0.35)} ${top}` +
    `Q${cx} ${y(0.35)} ${x(0.35)} ${top}C${x(0.9)} ${y(0.1)} ${x(1.25)} ${y(0.6)} ${x(1.25)} ${y(4)}Z`;
  return `<path d="${neck}" fill="#${skin}" ${edge}/><path d="${shirt}" fill="#${clothes.colour}" ${edge}/>`;
}
