// Which pictures a split has: a list of persons, each with the expressions to draw and how many drawings of each.
import { EXPRESSIONS } from './emotions.mjs';
import { RandomStream } from './random.mjs';
import { canShow, stylesOf } from './styles/index.mjs';

/**
 * train        persons of the seen styles, some expressions each
 * validation   held-out persons, all expressions, several true drawings each: the truth is a set
 * test         the same, other persons, in front of photographs that nobody else stands before
 * unseen       the same, of the unseen style
 * judge        other persons of the unseen style, for the judges' training alone
 */
export const SPLITS = ['train', 'validation', 'test', 'unseen', 'judge'];
const HAS_TRUTH = ['validation', 'test', 'unseen'];

/** Expressions that fewest persons have shown so far, so that all become equally frequent; the stream breaks ties. */
function rarest(able, made, count, r) {
  const rank = able.map(expression => ({ expression, seen: made[expression] + r.next() * 0.9 }));
  rank.sort((a, b) => a.seen - b.seen);
  return rank.slice(0, count).map(({ expression }) => expression);
}

/** [{ style, split, seed, index, expressions: [{ expression, most }] }]; a shorter plan is a longer one's beginning. */
export function planPersons({ split, persons, seed, perPerson, drawings }) {
  const styles = stylesOf(split);
  const made = Object.fromEntries(EXPRESSIONS.map(expression => [expression, 0]));
  const r = new RandomStream(`plan/${split}/${seed}`);
  const isTruth = HAS_TRUTH.includes(split);
  return [...Array(persons).keys()].map(index => {
    const style = styles[index % styles.length];
    const able = EXPRESSIONS.filter(expression => canShow(style, expression));
    const shown = isTruth ? able : rarest(able, made, perPerson, r);
    for (const expression of shown) made[expression]++;
    const most = expression => (isTruth && expression !== 'neutral' ? drawings : 1);
    const expressions = shown.map(expression => ({ expression, most: most(expression) }));
    return { style, split, seed, index, expressions };
  });
}
