// The avatar styles. Each module gives one object:
//
// design     the DiceBear package; every part is asked for by name, so that its own random stream decides nothing
// view       the side of the style's own frame; bodyEnds: whether its body ends there (the edge must then be hidden)
// head       { cx, top, chin, half }: middle, skull, chin, and half its width as a share of its height
// smallest   the smallest height of a head that is still readable, of 128 (SMALLEST_HEAD where it does not say)
// region     [left, top, right, bottom]: all that an expression changes lies within
// identity   (stream, reserved) → { options, skin, hair, wears, clothes }: what stays; `reserved` keeps held-out hair
// looks      expression → { plain, sign }: recipes (recipes.mjs)
// words      part → name → what a caption says of it
// options    (parts) → options for DiceBear that show them, with a stand-in for parts that are drawn here
// draw       (svg, parts, who) → the avatar with that expression
//
// An expression that a style cannot show is left out of its looks.
import adventurer from './adventurer.mjs';
import bigEars from './big_ears.mjs';
import bigSmile from './big_smile.mjs';
import dylan from './dylan.mjs';
import micah from './micah.mjs';
import openPeeps from './open_peeps.mjs';

const SEEN = { openPeeps, adventurer, bigSmile, bigEars, dylan };
const UNSEEN = { micah };
export const STYLES = { ...SEEN, ...UNSEEN };

/** The styles of a split: `unseen` and `judge` have persons of the unseen style, all others of the seen ones. */
export const stylesOf = split => Object.keys(split === 'unseen' || split === 'judge' ? UNSEEN : SEEN);

export const canShow = (style, expression) => expression in STYLES[style].looks;
