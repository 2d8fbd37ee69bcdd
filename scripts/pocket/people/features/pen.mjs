// Lines in the hand of a style. Features are drawn in units of their own (an eye's radius, half a brow, half a mouth),
// so a line's width is given in the same units.

/** What a style draws with. `line` and `browLine` are widths in the style's own units. */
export const pen = ({ line, browLine = line, ink = '#000', brow = ink, cavity = '#000', tongue = '#f08a9b' }) => ({
  line,
  browLine,
  ink,
  brow,
  cavity,
  tongue,
});

export const stroke = (d, ink, width, fill = 'none') =>
  `<path d="${d}" fill="${fill}" stroke="${ink}" stroke-width="${width}"` +
  ` stroke-linecap="round" stroke-linejoin="round"/>`;
