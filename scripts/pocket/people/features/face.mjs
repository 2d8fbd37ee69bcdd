// Where a style's face has its features, and what it draws them with.
import { pen } from './pen.mjs';

/**
 * The geometry of a style's face, in the style's own units.
 *
 * left, right   centres of the eyes
 * eye           an eye's radius
 * far           width of the right eye and brow to the left ones (below 1 where the head is turned)
 * brow          height of the brows above the eyes; browHalf: half a brow
 * mouth         its centre; half: half its width; tilt: its rotation in degrees
 * bridge        how far the nose's bridge stands right of the middle between the eyes
 */
export const faceGeometry = ({ far = 1, tilt = 0, bridge = 0, pen: tools, ...rest }) => ({
  far,
  tilt,
  bridge,
  pen: pen(tools),
  ...rest,
});

/** The point about which brows grow, shrink and move. */
export const browPivot = ({ left, right, brow }) => [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2 - brow];
