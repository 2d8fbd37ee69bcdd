// The place behind a person. It depends on its random stream, the split and the photographs alone.
import * as indoors from './indoors.mjs';
import * as outdoors from './outdoors.mjs';

const PLACES = { ...indoors, ...outdoors };
// How often each place is drawn. A photograph behind a fifth of the persons keeps the autoencoder honest about photos.
const SHARES = {
  plain: 5,
  photo: 4,
  hills: 1.4,
  sea: 1.4,
  city: 1.4,
  park: 1.4,
  night: 1.2,
  room: 1.6,
  library: 1.2,
  kitchen: 1,
  curtain: 1,
};

/** { place: its name, svg, words: how a caption says it }. */
export function scenery(r, split, photos) {
  const place = r.weighted(Object.keys(SHARES), name => SHARES[name]);
  return { place, ...(place === 'photo' ? photos.place(r, split) : PLACES[place](r)) };
}
