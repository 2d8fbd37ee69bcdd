// Seeded random streams: the same name always gives the same numbers, whatever was drawn from other streams.

/** FNV-1a, 32 bits. */
function hash(text) {
  let h = 2166136261;
  for (const character of text) h = Math.imul(h ^ character.charCodeAt(0), 16777619);
  return h >>> 0;
}

/** A stream of numbers in [0, 1) (mulberry32) that depends on its name alone. */
export class RandomStream {
  #state;

  constructor(name) {
    this.#state = hash(name);
    this.next(); // names that differ in their last letter start alike: two numbers are thrown away
    this.next();
  }

  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  pick(list) {
    return list[Math.floor(this.next() * list.length)];
  }

  chance(probability) {
    return this.next() < probability;
  }

  between(low, high) {
    return low + (high - low) * this.next();
  }

  /** One of the list, each with a probability proportional to weight(item). */
  weighted(list, weight) {
    let left = this.next() * list.reduce((sum, item) => sum + weight(item), 0);
    for (const item of list) {
      left -= weight(item);
      if (left < 0) return item;
    }
    return list[list.length - 1];
  }
}
