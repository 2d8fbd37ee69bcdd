// The words of captions: for emotions, and other words for the same drawing.

const EMOTIONS = {
  neutral: { adjectives: ['calm-faced', 'expressionless'], nouns: ['no emotion'] },
  amusement: { adjectives: ['amused'], nouns: ['amusement'] },
  anger: { adjectives: ['angry'], nouns: ['anger'] },
  awe: { adjectives: ['awestruck', 'amazed'], nouns: ['awe'] },
  contentment: { adjectives: ['content', 'contented'], nouns: ['contentment'] },
  disgust: { adjectives: ['disgusted'], nouns: ['disgust'] },
  excitement: { adjectives: ['excited'], nouns: ['excitement'] },
  fear: { adjectives: ['afraid', 'frightened'], nouns: ['fear'] },
  sadness: { adjectives: ['sad'], nouns: ['sadness'] },
};
export const adjectivesOf = emotion => EMOTIONS[emotion].adjectives;
export const nounsOf = emotion => EMOTIONS[emotion].nouns;

const SYNONYMS = {
  'a big laugh': ['laughing', 'laughing with the mouth wide open', 'a big open laugh'],
  'a smile': ['smiling', 'a gentle smile', 'smiling with closed lips'],
  'a small smile': ['smiling a little', 'a faint smile'],
  'a toothy grin': ['grinning', 'a grin showing the teeth', 'a wide grin'],
  'a straight mouth': ['a closed straight mouth', 'lips in a straight line', 'a flat mouth'],
  'a downturned mouth': ['the corners of the mouth turned down', 'a frown', 'frowning lips'],
  'gritted teeth': ['clenched teeth', 'teeth pressed together'],
  'bared teeth': ['teeth bared', 'showing clenched teeth'],
  'a shouting mouth': ['shouting', 'a mouth open in a shout'],
  'a round open mouth': ['mouth open in an o', 'a round mouth'],
  'a dropped open mouth': ['jaw dropped', 'mouth hanging open'],
  'wide round eyes': ['eyes wide open', 'big round eyes'],
  'closed eyes': ['eyes closed', 'shut eyes'],
  'laughing curved eyes': ['eyes shut in a laugh', 'laughing eyes'],
  'raised brows': ['eyebrows raised', 'raised eyebrows'],
  'worried brows': ['brows drawn up in the middle', 'worried eyebrows'],
  'lowered slanted brows': ['eyebrows drawn down', 'slanted lowered eyebrows'],
  'relaxed brows': ['relaxed eyebrows'],
  'a tongue sticking out under a downturned mouth': [
    'tongue stuck out of a turned down mouth',
    'sticking the tongue out',
  ],
  'a wavy mouth': ['a trembling mouth', 'wavy lips'],
  'one eye winking': ['winking', 'a wink'],
  'narrowed eyes': ['eyes narrowed'],
  tears: ['crying', 'tears on the cheeks', 'tears running down'],
};

/** The phrase, or more often than not another one that says the same. */
export const reworded = (phrase, r) => (SYNONYMS[phrase] && r.chance(0.6) ? r.pick(SYNONYMS[phrase]) : phrase);

const TAKES_NO_ARTICLE =
  /^(an?|the|freckles|glasses|cat ears|one|curly|short|long|thin|tied|dreadlocks|braids|spiky|wavy)\b/;
export function withArticle(text) {
  if (TAKES_NO_ARTICLE.test(text)) return text;
  return (/^[aeiou]/.test(text) ? 'an ' : 'a ') + text;
}

export const isPlural = text => /glasses|hair$|hairs$|dreadlocks|braids|freckles|ears$|hair (in|with)/.test(text);

/** 'a, b and c' */
export const inARow = phrases => phrases.join(', ').replace(/, ([^,]*)$/, ' and $1');
