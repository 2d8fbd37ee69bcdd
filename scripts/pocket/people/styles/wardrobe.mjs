// What a person wears, in words and colours.

export const percent = isThere => (isThere ? 100 : 0);
export const BLACK = '1a1a1a';
export const shirt = colour => ({ colour, kind: 'shirt' });

/** The kind of the first pattern that the part's name matches. */
export const kindOf = (name, kinds) => kinds.find(([pattern]) => pattern.test(name))[1];
